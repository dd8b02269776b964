#!/busybox sh
# The guest's first program: reaches the disk and hands over to session.sh, which came with the run.
/busybox mount -t devtmpfs devtmpfs /dev
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sysfs /sys
for module in /modules/*.ko; do
  /busybox insmod "$module" || echo "guest: cannot load $module"
done
tries=200
until [ -b /dev/vda ] || [ "$tries" = 0 ]; do
  /busybox usleep 25000
  tries=$((tries - 1))
done
# The disk is thrown away, so nothing on it needs to be safe from a crash.
if ! /busybox mount -t ext4 -o noatime,nobarrier /dev/vda /disk; then
  echo "guest: no disk"
  /busybox poweroff -f
fi
for folder in dev proc sys; do
  /busybox mount -o move "/$folder" "/disk/$folder"
done
/busybox mount -t tmpfs -o mode=755 tmpfs /disk/run
/busybox cp -r /guest /disk/run/guest
exec /busybox switch_root /disk /bin/bash /run/guest/session.sh
