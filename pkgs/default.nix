# Everything that the flake builds. `source` is the checkout, `nixpkgs` the pinned one that tenants' packages come from.
{ pkgs, nixpkgs, source }:
rec {
  carrel = pkgs.callPackage ./carrel.nix { inherit source; };
  trial = pkgs.callPackage ./trial.nix { inherit carrel nixpkgs source; };
  environment = pkgs.callPackage ./environment.nix { inherit nixpkgs source; };
  default = carrel;
}
