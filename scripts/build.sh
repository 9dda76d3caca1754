# Sourced: build_tree, which configures a preset once and builds targets in it.
# ninja itself reruns CMake when a CMakeLists.txt changes, so an existing tree is only built.

# build_tree PRESET [-DNAME=VALUE ...] -- TARGET...
build_tree() {
  local preset=$1 settings=()
  shift
  while [[ $1 != -- ]]; do settings+=("$1"); shift; done
  shift
  local tree=build/$preset setting
  local configured=yes
  [[ -f $tree/build.ninja ]] || configured=no
  for setting in "${settings[@]}"; do
    local name=${setting#-D}
    grep -q "^${name%%=*}:[A-Z]*=${name#*=}$" "$tree/CMakeCache.txt" 2>/dev/null || configured=no
  done
  if [[ $configured == no ]]; then
    say "Configuring $tree"
    quietly "build/log/configure-$preset" cmake --preset "$preset" "${settings[@]}" || fail "could not configure $tree"
  fi
  # A tree that is up to date is told apart cheaply, without a word on the screen.
  if [[ -f $tree/.ninja_log && $(ninja -C "$tree" -n "$@" 2>/dev/null | tail -n 1) == 'ninja: no work to do.' ]]; then
    return
  fi
  say "Building $tree"
  quietly "build/log/build-$preset" ninja -C "$tree" -j "$(nproc)" "$@" || fail "could not build $tree"
}
