# What the module reads of the rest of NixOS.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  config = {
    # NixOS sets these two itself, as defaults.
    boot.kernel.sysctl = {
      "kernel.kptr_restrict" = lib.mkDefault 1;
      "kernel.yama.ptrace_scope" = lib.mkDefault 0;
    };
    boot.kernelPackages.kernel = pkgs.linux;
    system.build.toplevel = pkgs.runCommand "toplevel" {
      unit = builtins.toJSON (config.systemd or { });
    } "";
    system.build.vm = pkgs.runCommand "vm" { } "";
    environment.etc = { };
    assertions = [ ];
    warnings = [ ];
  };
}
