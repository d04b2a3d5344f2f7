#!/bin/bash
# The first process of a host: private /tmp, home, /run, /opt and /dev/shm, then sshd (or nothing, for the launcher).
#
#   host.sh NAME ADDRESS SCRATCH KEPT...      KEPT: folders that stay where they are (interpreter, venv, checkout)
set -e
name=$1; address=$2; scratch=$3; shift 3
doubles=$(cd "$(dirname "$0")" && pwd)/doubles
mount --make-rprivate /
hostname "$name"
mount -t tmpfs none /mnt
for kept in "$scratch" "$@" "$doubles"; do mkdir -p "/mnt$kept"; mount --bind "$kept" "/mnt$kept"; done
for private in /tmp /root /run /opt /dev/shm; do mount -t tmpfs -o mode=1777 none "$private"; done
for kept in "$scratch" "$@" "$doubles"; do mkdir -p "$kept"; mount --bind "/mnt$kept" "$kept"; done
mkdir -p /run/sshd /opt/raybench/shared /opt/doubles
chmod 755 /root /run/sshd
mount --bind "$scratch/shared" /opt/raybench/shared
mount --bind "$doubles" /opt/doubles
cat > /root/.bashrc <<END
export PATH=/opt/doubles:$1/bin:/usr/sbin:/usr/bin:/sbin:/bin DOUBLES_LOG=$scratch/doubles
END
cp /root/.bashrc /root/.bash_profile
cp "$scratch/$name.env" /run/container-env
if [ "$name" = launcher ]; then exec sleep infinity; fi
exec /usr/sbin/sshd -D -e -o ListenAddress="$address" -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes \
  -o AuthorizedKeysFile="$scratch/key.pub" -o HostKey="$scratch/host_key" -o PidFile=none -o MaxSessions=50 \
  -o MaxStartups=50
