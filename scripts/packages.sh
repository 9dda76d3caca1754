# Sourced: the one list of Debian packages, and install_packages, which installs what of it is missing.
# Knows Debian 12 and 13. Costs a few hundredths of a second when nothing is missing.

build_packages=(
  g++ cmake ninja-build ccache pkg-config ca-certificates
  libcaf-dev libsimdjson-dev libcli11-dev libspdlog-dev libutf8proc-dev
  libssl-dev libcurl4-openssl-dev libzip-dev libedit-dev
  catch2 python3 python3-pip # pip resolves the address of a catalogue model
)
check_packages=(clang libclang-rt-dev python3-venv curl git chromium)

oldest_boost=81 # 1.81: the first with the Beast and JSON that the server uses

installed_boost() {
  dpkg-query -W -f '${db:Status-Status} ${Package}\n' 'libboost1.*-dev' 2>/dev/null |
    awk -v oldest="$oldest_boost" '$1 == "installed" && match($2, /^libboost1\.[0-9]+-dev$/) {
      split($2, part, /[.-]/); if (part[2] >= oldest) print $2 }' | head -n 1
}

offered_boost() {
  apt-cache pkgnames libboost1. | sed -n 's/^libboost1\.\([0-9]*\)-dev$/\1/p' | sort -n |
    while read -r minor; do
      if ((minor >= oldest_boost)) && [[ $(apt-cache policy "libboost1.$minor-dev") != *'Candidate: (none)'* ]]; then
        echo "libboost1.$minor-dev"
        break
      fi
    done
}

# missing_packages NAME...: those that are not installed, one a line.
missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p') || true
  printf '%s\n' "$@" | grep -vxF -f <(printf '%s\n' "$installed") || true
}

# install_packages LOG NAME...
install_packages() {
  local log=$1 wanted
  shift
  command -v dpkg-query >/dev/null || fail "this is not Debian: install the equivalents of: $* libboost1.$oldest_boost-dev"
  mapfile -t wanted < <(missing_packages "$@")
  local boost=yes
  [[ -n $(installed_boost) ]] || boost=no
  if ((${#wanted[@]} == 0)) && [[ $boost == yes ]]; then return; fi

  if ((EUID != 0)); then
    [[ $boost == yes ]] || wanted+=("$(offered_boost | grep . || echo "libboost1.$oldest_boost-dev")")
    fail "packages are missing and this is not root. Run this, then start again:
  sudo apt-get install --no-install-recommends -y ${wanted[*]}"
  fi
  say "Installing Debian packages: ${wanted[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # A third-party mirror that is down must not stop us: what counts is whether the packages can be had.
  local updated=yes
  quietly "$log" apt-get update -o APT::Update::Error-Mode=any || updated=no
  [[ $boost == yes ]] || wanted+=("$(offered_boost | grep . || echo "libboost1.$oldest_boost-dev")")
  quietly "$log" apt-get install --no-install-recommends -y "${wanted[@]}" && return
  [[ $updated == yes ]] || say "'apt-get update' had failed before that."
  fail "'apt-get install' failed; it needs the network (the Debian mirror). Missing: ${wanted[*]}"
}
