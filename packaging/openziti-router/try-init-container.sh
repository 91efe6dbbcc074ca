#!/bin/bash
# Runs the two containers of init-container.yaml one after the other with runc, on one volume, as a kubelet would: the same commands,
# environment, user, group and mount. There is no kubelet, no registry and no image here: both containers see this machine's root,
# read-only, in the place of their images, and this machine's loopback, where the controller is.
#
#   EXUVIA_BIN=target/release/exuvia ZITI_BIN=/path/to/ziti ZITI_SOURCE=/path/to/openziti/ziti packaging/openziti-router/try-init-container.sh
#
# ZITI_SOURCE holds the sources of OpenZiti: the second container runs its real entrypoint. Needs root, runc, python3 with yaml and a
# disk (not memory) below TMPDIR. PORT is the controller's, 1280 unless told. Ends with 1 at the first thing that is not as it should be.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${EXUVIA_BIN:?name the exuvia program}" "${ZITI_BIN:?name a real ziti program}" "${ZITI_SOURCE:?name the sources of OpenZiti}" "${PORT:=1280}"
home=$(mktemp -d)
export HOME=$home/home here home PORT
mkdir "$HOME" "$home/volume" "$home/programs" "$home/root" "$home/upper" "$home/work"
cp "$EXUVIA_BIN" "$home/programs/exuvia"
cp "$ZITI_BIN" "$home/programs/ziti"
cp "$ZITI_SOURCE/dist/dist-packages/linux/openziti-router/"{entrypoint,bootstrap}.bash "$home/programs/"
chmod 755 "$home" "$home/programs" "$home/programs"/*
ziti() { "$home/programs/ziti" "$@"; }
fail() { echo "FAILED: $*"; tail -n 12 "$home"/{enroll,init,router}.log 2>/dev/null | cut -c1-250; exit 1; }
until_true() { for _ in $(seq "$1"); do "${@:2}" >/dev/null 2>&1 && return 0; sleep 0.5; done; return 1; }
leaf() { openssl x509 -in "$home/volume/router.cert" -noout -fingerprint -sha1 | cut -d= -f2; }
online() { ziti edge list edge-routers -j | grep -q '"isOnline": *true'; }
controller=
finish() {
    runc delete --force exuvia-try-router 2>/dev/null || true
    [ -z "$controller" ] || kill -- "-$controller" 2>/dev/null || true
    umount "$home/root" 2>/dev/null || true
    rm -rf "$home"
}
trap finish EXIT

setsid "$home/programs/ziti" edge quickstart --home "$home/quickstart" --ctrl-address localhost --ctrl-port "$PORT" --no-router -p admin \
    >"$home/controller.log" 2>&1 &
controller=$!
until_true 120 curl -skf "https://localhost:$PORT/version" || fail "the controller does not come up"
until_true 60 ziti edge login "localhost:$PORT" -u admin -p admin -y || fail "no login"
ziti edge create edge-router router -o "$home/volume/router.jwt" >/dev/null
cat >"$home/volume/config.yml" <<YML
v: 3
identity:
  cert: /ziti-router/router.cert
  server_cert: /ziti-router/router.server.cert
  key: /ziti-router/router.key
  ca: /ziti-router/router.cas
ctrl:
  endpoint: tls:localhost:$PORT
  endpointsFile: /ziti-router/endpoints.yml
link:
  dialers:
    - binding: transport
listeners:
  - binding: edge
    address: tls:127.0.0.1:$((PORT + 1))
    options: {advertise: "localhost:$((PORT + 1))"}
edge:
  csr:
    sans:
      dns: [localhost]
# So that every start finds it due: OpenZiti's leaves live for a year.
exuvia: {threshold: 365d, spacing: 0}
YML
mount -t overlay overlay -o "lowerdir=/,upperdir=$home/upper,workdir=$home/work" "$home/root"
mkdir -p "$home/root/ziti-router" "$home/root/programs"
mount -o remount,ro "$home/root"

# One bundle for runc from one container of the manifest, or from a command of our own.
bundle() {
    mkdir -p "$home/$1"
    python3 - "$@" <<'PY'
import json, os, sys, yaml
name, which, command = sys.argv[1], sys.argv[2], sys.argv[3:]
home, here = os.environ["home"], os.environ["here"]
pod = yaml.safe_load(open(f"{here}/init-container.yaml"))["spec"]["template"]["spec"]
context = pod["securityContext"]
container = {one["name"]: one for one in pod["initContainers"] + pod["containers"]}[which]
args = command or container.get("command") or ["/entrypoint.bash"] + container["args"]
# What OpenZiti's image sets, then what the manifest sets.
env = {"PATH": "/programs:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/ziti-router"}
if which == "router":
    env |= {"ZITI_ROUTER_BOOTSTRAP_BASH": "/programs/bootstrap.bash", "ZITI_HOME": "/ziti-router", "ZITI_BOOTSTRAP": "true",
            "ZITI_BOOTSTRAP_CONFIG": "true", "ZITI_BOOTSTRAP_ENROLLMENT": "true", "ZITI_AUTO_RENEW_CERTS": "true"}
env |= {one["name"]: one["value"] for one in container.get("env", [])}
args = ["/programs/entrypoint.bash" if word == "/entrypoint.bash" else word for word in args]
mounts = [{"destination": "/proc", "type": "proc", "source": "proc"},
          {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
          {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
          {"destination": "/run", "type": "tmpfs", "source": "tmpfs"},
          {"destination": "/programs", "type": "bind", "source": f"{home}/programs", "options": ["rbind", "ro"]}]
for one in container["volumeMounts"]:
    mounts.append({"destination": one["mountPath"], "type": "bind", "source": f"{home}/volume", "options": ["rbind", "rw"]})
json.dump({"ociVersion": "1.0.2", "root": {"path": f"{home}/root", "readonly": True}, "mounts": mounts,
           "process": {"args": args, "cwd": "/ziti-router", "env": [f"{key}={value}" for key, value in env.items()],
                       "user": {"uid": context["runAsUser"], "gid": context["runAsGroup"], "additionalGids": [context["fsGroup"]]},
                       "noNewPrivileges": True},
           "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]}}, open(f"{home}/{name}/config.json", "w"))
PY
}
run() { runc run --bundle "$home/$1" "exuvia-try-$1" </dev/null >"$home/$1.log" 2>&1; }

# fsGroup: the kubelet gives the volume to the group, and lets it write.
chgrp -R 2171 "$home/volume" && chmod -R g+rwX "$home/volume" && chmod 2775 "$home/volume"
bundle enroll exuvia-extend sh -c "umask 0007; ziti router enroll /ziti-router/config.yml --jwt /ziti-router/router.jwt"
run enroll || fail "no enrollment"
enrolled=$(leaf)

bundle init exuvia-extend
run init || fail "the init container failed"
grep -q '^renewed: ' "$home/init.log" || fail "the init container renewed nothing"
[ "$(leaf)" != "$enrolled" ] || fail "the files are the old ones"
echo "init container: $(grep '^renewed: ' "$home/init.log")"

bundle router router
run router &
until_true 60 online || fail "the router is not online"
runc exec exuvia-try-router cat /proc/1/cmdline | tr '\0' ' ' >"$home/cmdline"
grep -q -- --extend "$home/cmdline" && fail "the image adds --extend: $(cat "$home/cmdline")"
echo "router container: online with the new leaf as \`$(cat "$home/cmdline")\`"

# The next pod, while the controller is away: the init container must not keep the router from starting.
runc kill exuvia-try-router KILL
wait %2 2>/dev/null || true
runc delete --force exuvia-try-router 2>/dev/null || true
kill -- "-$controller"
controller=
last=$(leaf)
bundle init exuvia-extend
run init || fail "without a controller the init container keeps the pod from starting"
[ "$(leaf)" = "$last" ] || fail "the identity changed"
echo "no controller: the init container ended with 0, the identity is as it was"
