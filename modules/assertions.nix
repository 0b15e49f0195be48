# What cannot be right, said at switch and not at the first request.
{ config, lib, ... }:
let
  cfg = config.services.carrel;
  loopback = [ "127.0.0.1" "::1" "localhost" ];
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.user != "root";
        message = "services.carrel.user: sandboxes are never started by root; leave it at `carrel`.";
      }
      {
        assertion = toString cfg.stateDir != toString cfg.tenantsDir;
        message = "services.carrel.tenantsDir and stateDir are the same directory.";
      }
      {
        assertion = !cfg.hardening.kernelFloor || lib.versionAtLeast config.boot.kernelPackages.kernel.version "5.14";
        message = "services.carrel needs Linux 5.14 or later (services.carrel.hardening.kernelFloor).";
      }
      {
        assertion = lib.all (name: builtins.match "[A-Za-z0-9][A-Za-z0-9_.-]*" name != null) (lib.attrNames cfg.secrets);
        message = "services.carrel.secrets: a name is made of letters, digits, `_`, `.` and `-`.";
      }
    ];
    warnings = lib.optional (cfg.openFirewall && !(lib.elem cfg.listen.address loopback))
      "services.carrel is open to the network without TLS: put a reverse proxy before it.";
  };
}
