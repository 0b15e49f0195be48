# What cannot be right, said at switch and not at the first request. Each says what mends it.
{ config, lib, ... }:
let
  cfg = config.services.carrel;
  loopback = [
    "127.0.0.1"
    "::1"
    "localhost"
  ];
  state = toString cfg.stateDir;
  tenants = toString cfg.tenantsDir;
  inStore = path: builtins.isPath path || lib.hasPrefix "${builtins.storeDir}/" (toString path);
  stored = lib.attrNames (lib.filterAttrs (_: secret: inStore secret.file) cfg.secrets);
  relative = lib.attrNames (
    lib.filterAttrs (
      _: secret: !(builtins.isPath secret.file) && !(lib.hasPrefix "/" secret.file)
    ) cfg.secrets
  );
  named = lib.filterAttrs (_: name: name != null) { inherit (cfg.git.pull) sshKey token webhook; };
  unknown = lib.attrNames (lib.filterAttrs (_: name: !(cfg.secrets ? ${name})) named);
  ssh =
    cfg.git.pull.url != null
    && !(lib.hasPrefix "https://" cfg.git.pull.url)
    && !(lib.hasPrefix "file://" cfg.git.pull.url);
  placed = builtins.concatLists (lib.mapAttrsToList (_: shard: shard.tenants) cfg.shards);
  twice = lib.unique (
    builtins.filter (
      tenant: builtins.length (builtins.filter (other: other == tenant) placed) > 1
    ) placed
  );
  fleet = cfg.shards != { };
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.user != "root";
        message = "services.carrel.user: sandboxes are never started by root; leave it at `carrel`.";
      }
      {
        assertion = !(inStore cfg.stateDir);
        message = "services.carrel.stateDir is in the Nix store, which nobody can write: name a directory of the host, as text.";
      }
      {
        assertion = state != tenants;
        message = "services.carrel.tenantsDir and stateDir are the same directory: give the declarations one of their own.";
      }
      {
        assertion =
          !(lib.any (home: lib.hasPrefix home "${state}/") [
            "/home/"
            "/root/"
            "/run/user/"
          ]);
        message = "services.carrel.stateDir is in a home, which the units do not see: put it beneath /var/lib or a disk of its own.";
      }
      {
        assertion =
          cfg.settings.listen.address == cfg.listen.address && cfg.settings.listen.port == cfg.listen.port;
        message = "services.carrel.settings.listen: systemd's socket, the firewall and the proxy go by services.carrel.listen.address and .port: set those.";
      }
      {
        assertion = cfg.settings.state_dir == state;
        message = "services.carrel.settings.state_dir: units, mounts and the command go by services.carrel.stateDir: set that.";
      }
      {
        assertion =
          !cfg.hardening.kernelFloor || lib.versionAtLeast config.boot.kernelPackages.kernel.version "5.14";
        message = "services.carrel needs Linux 5.14 or later: choose another boot.kernelPackages, or say services.carrel.hardening.kernelFloor = false.";
      }
      {
        assertion = lib.all (name: builtins.match "[A-Za-z][A-Za-z0-9_.-]{0,63}" name != null) (
          lib.attrNames cfg.secrets
        );
        message = "services.carrel.secrets: a name is 1 to 64 of letters, digits, `_`, `.` and `-`, and starts with a letter.";
      }
      {
        assertion = stored == [ ];
        message = "services.carrel.secrets: ${builtins.concatStringsSep ", " stored} would be in the Nix store, which everybody can read: name a file of the host as text (\"/run/keys/…\"), or what sops-nix or agenix put there.";
      }
      {
        assertion = relative == [ ];
        message = "services.carrel.secrets: the file of ${builtins.concatStringsSep ", " relative} is no path from the root.";
      }
      {
        assertion = !(cfg.git.push.enable && cfg.git.pull.url != null);
        message = "services.carrel.git: declarations are pushed or pulled, not both: take git.push.enable or git.pull.url out.";
      }
      {
        assertion = !ssh || cfg.git.pull.knownHosts != [ ];
        message = "services.carrel.git.pull.knownHosts: no host key is believed at first sight; put what `ssh-keyscan HOST` prints there, once it was compared.";
      }
      {
        assertion = unknown == [ ];
        message = "services.carrel.git.pull: ${
          builtins.concatStringsSep ", " (map (option: "${option} names `${named.${option}}`") unknown)
        }, which is not in services.carrel.secrets: set services.carrel.secrets.NAME.file.";
      }
      {
        assertion = !cfg.tls.enable || cfg.tls.domain != null;
        message = "services.carrel.tls.domain: say under which name the gateway is reached, so that it can have a certificate.";
      }
      {
        assertion = !(cfg.tls.enable && cfg.tls.proxy == "nginx") || cfg.tls.email != null;
        message = "services.carrel.tls.email: nginx's certificates need an address; set it, or take tls.proxy = \"caddy\".";
      }
      {
        assertion = !fleet || (cfg.shard.name != null && cfg.shards ? ${cfg.shard.name});
        message = "services.carrel.shard.name: say which of services.carrel.shards this host is (${builtins.concatStringsSep ", " (lib.attrNames cfg.shards)}).";
      }
      {
        assertion = !fleet || cfg.shards ? ${cfg.shard.rest};
        message = "services.carrel.shard.rest: say which of services.carrel.shards serves the tenants that none names (${builtins.concatStringsSep ", " (lib.attrNames cfg.shards)}).";
      }
      {
        assertion =
          cfg.backup.schedule != null
          || (
            cfg.backup.target == null
            && !cfg.backup.verify
            && lib.all (count: count == null) (lib.attrValues cfg.backup.retention)
          );
        message = "services.carrel.backup: target, retention and verify are of the backups that schedule makes, and it is not set: set it, or say `backup: {to: …, keep: …}` in _gateway.yaml.";
      }
      {
        assertion = twice == [ ];
        message = "services.carrel.shards: ${builtins.concatStringsSep ", " twice} would be served by two gateways, with two ledgers: leave each in one.";
      }
      {
        assertion = fleet || cfg.shard.name == null;
        message = "services.carrel.shard.name is set, and services.carrel.shards is empty: name the gateways there.";
      }
    ];
    warnings =
      lib.optional (cfg.openFirewall && !cfg.tls.enable && !(lib.elem cfg.listen.address loopback))
        "services.carrel is open to the network without TLS: set services.carrel.tls, or put a proxy of your own before it."
      ++
        lib.optional (cfg.git.pull.url != null && cfg.git.pull.allowedSigners == [ ])
          "services.carrel.git.pull.allowedSigners is empty: whoever can write ${toString cfg.git.pull.url} decides what runs here.";
  };
}
