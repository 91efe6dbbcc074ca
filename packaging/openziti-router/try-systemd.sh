#!/bin/bash
# Tries the shipped units under a real systemd: PID 1 of namespaces of its own, on an overlay of this machine's root.
#
#   EXUVIA_BIN=target/release/exuvia ZITI_BIN=/path/to/ziti packaging/openziti-router/try-systemd.sh
#
# Needs root, systemd, overlayfs and a real `ziti`. Nothing outside a temporary folder and two cgroups is touched. The unit
# `ziti-router.service` is a stand-in with the user, folder, command and environment file of OpenZiti's Linux package; the controller is
# `ziti edge quickstart`. Prints what was seen, and ends with 1 at the first thing that is not as it should be.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${EXUVIA_BIN:?name the exuvia program}" "${ZITI_BIN:?name a real ziti program}"

if [ "${1:-}" != inside ]; then
    home=$(mktemp -d)
    mkdir "$home/over" "$home/root" "$home/bin" "$home/state"
    cp "$EXUVIA_BIN" "$home/bin/exuvia"
    cp "$ZITI_BIN" "$home/bin/ziti"
    cp "$here"/*.conf "$here"/*.service "$here"/*.timer "$here/try-systemd.sh" "$home/bin/"
    export home
    for hierarchy in systemd unified; do
        group=/sys/fs/cgroup/$hierarchy/exuvia-try
        [ -d "/sys/fs/cgroup/$hierarchy" ] || continue
        mkdir -p "$group" && echo $$ >"$group/cgroup.procs" || true
    done
    unshare --pid --fork --kill-child --mount --uts --ipc --cgroup --net bash -euc '
        mount --make-rprivate /
        mount -t tmpfs -o size=1g tmpfs "$home/over"
        mkdir "$home/over/upper" "$home/over/work"
        mount -t overlay overlay -o "lowerdir=/,upperdir=$home/over/upper,workdir=$home/over/work" "$home/root"
        cd "$home/root"
        mount -t proc proc proc
        mount -t sysfs -o ro sysfs sys
        if [ -d /sys/fs/cgroup/systemd ]; then
            mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
            mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
            mount -t cgroup -o none,name=systemd systemd sys/fs/cgroup/systemd
            mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
        else
            mount -t cgroup2 cgroup2 sys/fs/cgroup
        fi
        mount -t tmpfs -o mode=755 tmpfs run
        mkdir run/try run/lock
        mount --bind "$home/bin" run/try
        # A real file system for the identity: on the overlay Exuvia refuses to renew, because a lost overlay takes the identity with it.
        mkdir -p var/lib/ziti-router
        mount --bind "$home/state" var/lib/ziti-router
        mount -t tmpfs -o mode=1777 tmpfs tmp
        mount -t tmpfs -o mode=755 tmpfs dev
        for node in null zero full random urandom tty; do touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"; done
        mkdir dev/pts dev/shm
        mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
        mount -t tmpfs tmpfs dev/shm
        ln -s pts/ptmx dev/ptmx
        ln -s /proc/self/fd dev/fd
        ip link set lo up
        mkdir oldroot
        pivot_root . oldroot
        umount -l /oldroot
        exec env -i container=exuvia-try PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target
    ' >"$home/boot.log" 2>&1 &
    outer=$!
    trap 'kill -9 $outer 2>/dev/null; wait $outer 2>/dev/null || true; rm -rf "$home"; rmdir /sys/fs/cgroup/*/exuvia-try 2>/dev/null || true' EXIT
    for _ in $(seq 300); do
        init=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null | tr -d ' ' || true)
        [ -n "$init" ] && [ "$(cat "/proc/$init/comm" 2>/dev/null)" = systemd ] && break
        sleep 0.1
    done
    enter() { nsenter -t "$init" -a env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }
    for _ in $(seq 300); do enter systemctl is-active -q basic.target 2>/dev/null && break; sleep 0.1; done
    echo "systemd $(enter systemctl --version | head -1 | cut -d' ' -f2) runs as process 1: $(enter systemctl is-system-running || true)"
    enter env EXUVIA_BIN=/run/try/exuvia ZITI_BIN=/run/try/ziti bash /run/try/try-systemd.sh inside
    exit
fi

# From here on: inside, beside the systemd that runs there.
fail() { echo "FAILED: $*"; journalctl --no-pager -n 10 _COMM=exuvia + _COMM=systemd -o cat | cut -c1-300; exit 1; }
until_true() { for _ in $(seq "$1"); do "${@:2}" >/dev/null 2>&1 && return 0; sleep 0.5; done; return 1; }
leaf() { openssl x509 -in "$state/router.cert" -noout -fingerprint -sha1 | cut -d= -f2; }
online() { /usr/bin/ziti edge list edge-routers -j | grep -q '"isOnline": *true'; }
prop() { systemctl show -P "$2" "$1"; }

state=/var/lib/ziti-router
install -m 755 "$EXUVIA_BIN" /usr/bin/exuvia
install -m 755 "$ZITI_BIN" /usr/bin/ziti
useradd --system --home-dir "$state" --shell /usr/sbin/nologin ziti-router 2>/dev/null || true
install -d -o ziti-router -g ziti-router "$state"
mkdir -p /opt/openziti/etc/router
echo "ZITI_ARGS='--extend'" >/opt/openziti/etc/router/service.env

systemd-run --quiet --unit ziti-controller --setenv HOME=/root /usr/bin/ziti edge quickstart --home /root/quickstart \
    --ctrl-address localhost --ctrl-port 1280 --no-router -p admin
until_true 120 curl -skf https://localhost:1280/version || fail "the controller does not come up"
until_true 60 /usr/bin/ziti edge login localhost:1280 -u admin -p admin -y || fail "no login"
/usr/bin/ziti edge create edge-router router -o "$state/router.jwt" >/dev/null
cat >"$state/config.yml" <<YML
v: 3
identity:
  cert: $state/router.cert
  server_cert: $state/router.server.cert
  key: $state/router.key
  ca: $state/router.cas
ctrl:
  endpoint: tls:localhost:1280
link:
  dialers:
    - binding: transport
listeners:
  - binding: edge
    address: tls:127.0.0.1:3022
    options: {advertise: "localhost:3022"}
edge:
  csr:
    sans:
      dns: [localhost]
# So that every look finds it due: OpenZiti's leaves live for a year.
exuvia: {threshold: 365d, spacing: 0}
YML
chown ziti-router: "$state"/*
enrolled=$(setpriv --reuid ziti-router --regid ziti-router --clear-groups env HOME=$state sh -c "cd $state && /usr/bin/ziti router enroll config.yml --jwt router.jwt" 2>&1) || fail "no enrollment: $enrolled"
enrolled=$(leaf)

# The stand-in for OpenZiti's unit.
cat >/etc/systemd/system/ziti-router.service <<UNIT
[Unit]
Description=OpenZiti Router
[Service]
Type=simple
User=ziti-router
Group=ziti-router
EnvironmentFile=/opt/openziti/etc/router/service.env
StateDirectory=ziti-router
WorkingDirectory=$state
ExecStart=/usr/bin/ziti router run config.yml \$ZITI_ARGS
Restart=always
RestartSec=3
UMask=0007
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p /etc/systemd/system/ziti-router.service.d
cp /run/try/10-exuvia.conf /etc/systemd/system/ziti-router.service.d/
cp /run/try/exuvia-extend.service /run/try/exuvia-extend.timer /etc/systemd/system/
systemctl daemon-reload
systemd-analyze verify --man=no ziti-router.service exuvia-extend.service exuvia-extend.timer || fail "a unit does not verify"
echo "the units verify"

systemctl start ziti-router || fail "the unit does not start"
until_true 60 online || fail "the router is not online"
tr '\0' ' ' <"/proc/$(prop ziti-router MainPID)/cmdline" | grep -q -- --extend && fail "the router runs with --extend"
[ "$(leaf)" != "$enrolled" ] || fail "nothing was renewed before the start"
journalctl --no-pager -u ziti-router -o cat | grep '^renewed: ' || fail "exuvia said nothing"
echo "drop-in: exuvia renewed before the Go router started; the router is online with the new leaf, without --extend"
started=$(leaf)

# The timer beside the running router. Its dates are shortened; everything else is as shipped.
mkdir -p /etc/systemd/system/exuvia-extend.timer.d
printf '[Timer]\nOnBootSec=\nOnUnitActiveSec=\nRandomizedDelaySec=0\nOnActiveSec=5s\n' >/etc/systemd/system/exuvia-extend.timer.d/try.conf
systemctl daemon-reload
before=$(prop ziti-router MainPID)
begun=$(date +%s)
systemctl start exuvia-extend.timer
until_true 20 sh -c '[ "$(systemctl show -P ActiveEnterTimestampMonotonic exuvia-extend.timer)" != 0 ] && [ "$(systemctl show -P ExecMainStartTimestampMonotonic exuvia-extend.service)" != 0 ]' || fail "the timer does not fire"
until_true 400 sh -c 'systemctl show -P ActiveState exuvia-extend.service | grep -qE "^(inactive|failed)"' || fail "exuvia does not end"
[ "$(prop exuvia-extend.service Result)" = success ] || fail "exuvia failed"
[ "$(leaf)" != "$started" ] || fail "nothing was renewed beside the running router"
renewed=$(date +%s)
until_true 60 online || fail "the router is not online any more"
[ "$(prop ziti-router MainPID)" = "$before" ] || fail "the router was restarted"
echo "timer: fired beside the running router, renewed after $((renewed - begun)) s; the same router process is online again $(($(date +%s) - renewed)) s later"

# A start while the controller is away: the router starts with what it has.
systemctl stop ziti-router ziti-controller
last=$(leaf)
begun=$(date +%s)
systemctl start ziti-router || fail "the unit does not start without a controller"
[ "$(prop ziti-router MainPID)" != 0 ] && [ "$(leaf)" = "$last" ] || fail "the identity changed"
echo "no controller: the router started after $(($(date +%s) - begun)) s, with the identity that it had"
