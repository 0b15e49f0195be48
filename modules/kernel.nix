# The kernel under strangers' code: what is not needed for sandboxes and has been a way out of them is off. Each with its
# own option, for a host may serve other things too.
{ config, lib, ... }:
let
  cfg = config.services.carrel;
  inherit (lib) mkOption types;
  # NixOS has defaults of its own for some of these: ours go before them, and what a host sets goes before ours.
  preferred = lib.mkOverride 900;
  flag =
    description:
    mkOption {
      type = types.bool;
      default = true;
      inherit description;
      example = false;
    };
in
{
  options.services.carrel.hardening = {
    kernelFloor = flag ''
      Refuse kernels before 5.14: earlier ones count a sandbox's processes together with those of all others.
    '';
    socketModules = flag ''
      Do not load algif, rxrpc and esp modules: socket families that no tool needs, with a history of privilege escalation.
    '';
    ioUring = flag ''
      Turn io_uring off for unprivileged processes: it reaches the kernel past what seccomp sees.
    '';
    userfaultfd = flag ''
      Keep userfaultfd to privileged processes: it holds the kernel still at will, which exploits rest on.
    '';
    legacyTiocsti = flag ''
      Turn legacy TIOCSTI off: it puts keystrokes into the terminal of another.
    '';
    ptraceScope = flag ''
      Let only privileged processes trace others: sandboxes share one uid with each other and with the gateway.
    '';
    gatewayBuilds = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Let the gateway run builds of Nix itself, in a store in its state directory. It is not needed with an index, nor
        with `packages: {store: daemon}`, where the host's daemon builds; and it opens namespaces and mounts to the gateway.
      '';
      example = true;
    };
    kptrRestrict = flag ''
      Hide kernel addresses, also from privileged readers.
    '';
  };

  config = lib.mkIf cfg.enable {
    boot.blacklistedKernelModules = lib.mkIf cfg.hardening.socketModules [
      "algif_aead"
      "algif_hash"
      "algif_rng"
      "algif_skcipher"
      "rxrpc"
      "esp4"
      "esp6"
    ];
    boot.kernel.sysctl = lib.mkMerge [
      (lib.mkIf cfg.hardening.ioUring { "kernel.io_uring_disabled" = preferred 2; })
      (lib.mkIf cfg.hardening.userfaultfd { "vm.unprivileged_userfaultfd" = preferred 0; })
      (lib.mkIf cfg.hardening.legacyTiocsti { "dev.tty.legacy_tiocsti" = preferred 0; })
      (lib.mkIf cfg.hardening.ptraceScope { "kernel.yama.ptrace_scope" = preferred 2; })
      (lib.mkIf cfg.hardening.kptrRestrict { "kernel.kptr_restrict" = preferred 2; })
    ];
  };
}
