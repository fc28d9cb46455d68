#!/usr/bin/env bash
# What tests need of the system, besides Python, make, gcc, Rust, Go and a JDK with Maven. As root on Debian it is installed where it
# is missing; elsewhere the tests that need it say so. `packages.sh node` adds what a whole Kubernetes node needs: by hand and
# in CI only, because Debian's containerd would take the place of Docker's.
set -euo pipefail
# Certificates; a server for the ledger's tables and a peer for the sidecar, both of which tests start by themselves; what
# compiles llama.cpp.
packages=(openssl postgresql nginx g++)
# A container runtime and its networks; images and a base for them.
[ "${1:-}" != node ] ||
  packages+=(containerd runc containernetworking-plugins nftables conntrack iptables iproute2 buildah debootstrap)

missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "tests need: ${missing[*]} (names of Debian's packages); those without it will fail and say so" >&2
  exit 0
fi

# Neither server of Debian's own may start.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
