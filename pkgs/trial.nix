# `nix run .#gateway`: the gateway with the sample tenants, which are copied to where they can be edited.
{
  writeShellApplication,
  carrel,
  coreutils,
  nixpkgs,
  source,
}:
writeShellApplication {
  name = "carrel-trial";
  runtimeInputs = [
    carrel
    coreutils
  ];
  text = ''
    state="''${XDG_STATE_HOME:-$HOME/.local/state}/carrel"
    tenants="''${CARREL_TENANTS_DIR:-$PWD/tenants.d}"
    if [ ! -d "$tenants" ]; then
      tenants="$state-trial/tenants.d"
      if [ ! -d "$tenants" ]; then
        mkdir -p "$tenants"
        cp --no-preserve=mode,ownership ${source}/tenants.d/*.yaml "$tenants/"
        echo "carrel: the sample tenants are in $tenants, to be edited"
      fi
    fi
    export CARREL_NIXPKGS=${nixpkgs}
    exec carrel gateway --trial --tenants-dir "$tenants" "$@"
  '';
}
