# Everything that the flake builds. `source` is the checkout, `nixpkgs` the pinned one that tenants' packages come from.
{
  pkgs,
  nixpkgs,
  source,
}:
rec {
  carrel = pkgs.callPackage ./carrel.nix { inherit source; };
  trial = pkgs.callPackage ./trial.nix { inherit carrel nixpkgs source; };
  environment = pkgs.callPackage ./environment.nix { inherit nixpkgs source; };
  # For gateways that are not on NixOS; `services.carrel.packages` makes its own.
  index = import (source + "/python/carrel/packages/expressions/index.nix") {
    inherit pkgs;
    names = [
      "git"
      "jq"
      "python3"
      "ripgrep"
    ];
  };
  default = carrel;
}
