# What the module reads of the rest of NixOS.
{ config, pkgs, ... }:
{
  config = {
    boot.kernelPackages.kernel = pkgs.linux;
    system.build.toplevel = pkgs.runCommand "toplevel" { unit = builtins.toJSON config.systemd.services.carrel; } "";
    assertions = [ ];
    warnings = [ ];
  };
}
