# Runs in the guest as process 1, under bash: sets the system up, runs the command, sends back what
# it wrote and its exit code, and switches the machine off.
#
# job.sh, written for each run, has: command and shares (arrays), modules, nvme, hugepages.
# Three ports lead to the host, each with a name: stdout, stderr and report.
export PATH=/run/guest/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/var/guest LANG=C.UTF-8 TERM=dumb
. /run/guest/job.sh

mkdir -p /dev/pts /dev/shm /run/lock /run/rpcbind "$HOME"
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
hostname guest
ip link set lo up
ulimit -n 65536
ulimit -l unlimited

for module in "${modules[@]}"; do
  modprobe "$module" || echo "guest: cannot load $module"
done
if [ "$hugepages" != 0 ]; then
  mkdir -p /dev/hugepages
  mount -t hugetlbfs hugetlbfs /dev/hugepages
fi
options=trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=client
for tag in "${!shares[@]}"; do
  mkdir -p "${shares[tag]}"
  mount -t 9p -o "$options" "share$tag" "${shares[tag]}" || echo "guest: no ${shares[tag]}"
done
cd "${shares[0]}" || echo "guest: no working folder"

# A controller's namespace appears a moment after its driver.
for ((tries = 200; tries > 0; tries--)); do
  namespaces=(/sys/class/nvme/nvme*/nvme*n*)
  [ -e "${namespaces[0]}" ] || namespaces=()
  [ "${#namespaces[@]}" -ge "$nvme" ] && break
  sleep 0.05
done

declare -A port
for folder in /sys/class/virtio-ports/*; do
  port[$(<"$folder/name")]=/dev/${folder##*/}
done
exec 9>"${port[report]}"

# Through pipes, so that the command may open /dev/stdout again, as a port allows one opener.
mkfifo /run/guest/stdout /run/guest/stderr
cat /run/guest/stdout >"${port[stdout]}" &
drains=($!)
cat /run/guest/stderr >"${port[stderr]}" &
drains+=($!)
echo begun >&9
(exec 9>&-; exec "${command[@]}") </dev/null >/run/guest/stdout 2>/run/guest/stderr
code=$?
# All it wrote; but a process it left running may hold the pipes open for ever.
for ((tries = 40; tries > 0; tries--)); do
  kill -0 "${drains[@]}" 2>/dev/null || break
  sleep 0.05
done
echo "exit $code" >&9
cd /
for tag in "${!shares[@]}"; do umount "${shares[tag]}" 2>/dev/null; done
echo o >/proc/sysrq-trigger
sleep 60
