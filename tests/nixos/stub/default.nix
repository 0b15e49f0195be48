# As nixpkgs is imported where there is no flake.
{
  system ? builtins.currentSystem,
  config ? { },
  overlays ? [ ],
}:
import ./packages.nix {
  lib = import ./lib.nix;
  inherit system;
}
