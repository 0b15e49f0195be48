# services.carrel. One file a part; `self` is the flake, for its packages and its pinned nixpkgs.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
{
  imports = [
    ./options.nix
    ./settings.nix
    ./gateway.nix
    ./launcher.nix
    ./git.nix
    ./backup.nix
    ./proxy.nix
    ./metrics.nix
    ./shards.nix
    ./packages.nix
    ./runtimes.nix
    ./kernel.nix
    ./assertions.nix
  ];

  config.services.carrel = {
    package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.carrel;
    nixpkgs = lib.mkDefault (toString self.inputs.nixpkgs);
  };
}
