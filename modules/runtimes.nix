# Programs that modes of the sandbox may name besides bubblewrap: they are where the gateway looks for them.
{ config, lib, ... }:
let
  cfg = config.services.carrel;
  inherit (lib) mkOption literalExpression types;
in
{
  options.services.carrel.sandbox.runtimes = mkOption {
    type = types.listOf types.package;
    default = [ ];
    description = ''
      OCI runtimes and engines that modes of tenants' sandboxes name as `runtime_class` and `engine`. They are on the
      gateway's path alone, not on the host's.
    '';
    example = literalExpression "[ pkgs.crun pkgs.podman ]";
  };

  config = lib.mkIf (cfg.enable && cfg.sandbox.runtimes != [ ]) {
    systemd.services.carrel.path = cfg.sandbox.runtimes;
  };
}
