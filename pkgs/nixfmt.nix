# The formatter of Nix files: nixpkgs 25.05 has another one by the name `nixfmt`.
{ pkgs }:
if pkgs.lib.versionAtLeast pkgs.nixfmt.version "1" then pkgs.nixfmt else pkgs.nixfmt-rfc-style
