#!/bin/bash
# vfio-bind ADDRESS...: hands PCI functions to user space, and prints the /dev/vfio/GROUP of each.
modprobe vfio-pci || exit 1
for address; do
  function=/sys/bus/pci/devices/$address
  if ! [ -d "$function" ]; then
    echo "vfio-bind: no PCI function $address" >&2
    exit 1
  fi
  if [ -e "$function/driver" ]; then
    echo "$address" >"$function/driver/unbind"
  fi
  echo vfio-pci >"$function/driver_override"
  echo "$address" >/sys/bus/pci/drivers_probe
  group=$(basename "$(readlink "$function/iommu_group")")
  if ! [ -c "/dev/vfio/$group" ]; then
    echo "vfio-bind: $address has no IOMMU group of its own: was the guest started with --iommu?" >&2
    exit 1
  fi
  echo "/dev/vfio/$group"
done
