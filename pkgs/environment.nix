# A tenant's environment, built beforehand by the same expression that the running gateway builds with.
{
  nixpkgs,
  source,
  stdenv,
  packages ? [
    "git"
    "jq"
    "python3"
    "ripgrep"
  ],
}:
import (source + "/python/carrel/packages/expressions/nixpkgs.nix") {
  packages = builtins.toJSON packages;
  nixpkgs = nixpkgs;
  system = stdenv.hostPlatform.system;
}
