# Declarations that come through git: pushed to this host over ssh, or pulled from elsewhere.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.carrel;
  git = cfg.git;
  inherit (lib)
    mkOption
    mkEnableOption
    literalExpression
    types
    ;
  json = pkgs.formats.json { };
  state = toString cfg.stateDir;
  seconds =
    default: description:
    mkOption {
      type = types.ints.between 1 604800;
      inherit default description;
      example = 300;
    };
  hosted = {
    branch = git.branch;
    directory = git.directory;
    keep_revisions = git.keepRevisions;
    max_transfer_bytes = git.maxTransferBytes;
  };
  # As `carrel git authorize` writes it: the name is who pushes, and cannot be chosen by who does.
  forced =
    name: key:
    "restrict,command=\"${cfg.package}/bin/carrel git serve ${name} --state-dir ${state}\" ${key}";
  set = lib.filterAttrs (_: value: value != null);
  pull =
    hosted
    // set {
      inherit (git.pull) url;
      interval_seconds = git.pull.intervalSeconds;
      allowed_signers = if git.pull.allowedSigners == [ ] then null else "${signers}";
      unsigned = if git.pull.allowedSigners == [ ] then true else null;
      known_hosts = if git.pull.knownHosts == [ ] then null else "${knownHosts}";
      signed_since = git.pull.signedSince;
      ssh_key = if git.pull.sshKey == null then null else { secret = git.pull.sshKey; };
      token = if git.pull.token == null then null else { secret = git.pull.token; };
      webhook = if git.pull.webhook == null then null else { secret = git.pull.webhook; };
    };
  signers = pkgs.writeText "carrel-allowed-signers" (
    builtins.concatStringsSep "\n" git.pull.allowedSigners + "\n"
  );
  knownHosts = pkgs.writeText "carrel-known-hosts" (
    builtins.concatStringsSep "\n" git.pull.knownHosts + "\n"
  );
in
{
  options.services.carrel.git = {
    enable = mkOption {
      type = types.bool;
      internal = true;
      readOnly = true;
      description = "Whether declarations come through git.";
      example = true;
    };
    branch = mkOption {
      type = types.str;
      default = "main";
      description = "The branch that counts.";
      example = "production";
    };
    directory = mkOption {
      type = types.str;
      default = "";
      description = "Where in the repository the declarations are; at its top by default.";
      example = "tenants.d";
    };
    keepRevisions = mkOption {
      type = types.ints.between 1 1000;
      default = 5;
      description = "Exported revisions that stay on disk, for `carrel rollback`. Commits all stay.";
      example = 20;
    };
    maxTransferBytes = mkOption {
      type = types.ints.between 1024 17179869184;
      default = 67108864;
      description = "The bytes that one push or fetch may bring.";
      example = 8388608;
    };
    push = {
      enable = mkEnableOption ''
        pushing declarations to this host over ssh: `git push ssh://carrel@HOST/…/tenants.git main`. The account has git on this
        one repository and nothing else'';
      authorizedKeys = mkOption {
        type = types.attrsOf (types.listOf types.str);
        default = { };
        description = ''
          Public keys by the name of the person, which commits and the audit log then show. They stand beside those that
          `carrel git authorize` adds.
        '';
        example = literalExpression ''{ alice = [ "ssh-ed25519 AAAA… alice@laptop" ]; }'';
      };
    };
    pull = {
      url = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "The repository that is followed, by ssh or https. `null`: none is.";
        example = "ssh://git@forge.example.org/team/tenants.git";
      };
      intervalSeconds = seconds 60 "How often the branch is looked at. A webhook makes it sooner.";
      allowedSigners = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = ''
          Whose SSH signatures count, in the format of ssh-keygen(1). Every new commit must bear one of them. Empty: commits
          are taken unsigned, and whoever may write the repository decides what runs here.
        '';
        example = [ "alice@example.org namespaces=\"git\" ssh-ed25519 AAAA…" ];
      };
      signedSince = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "A commit that is trusted as it is: those after it must be signed. `null`: all must be.";
        example = "4f1c1d9a0c1c5f6d5f2b3e1a9b8c7d6e5f4a3b2c";
      };
      knownHosts = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "The host keys of the remote, as ssh-keyscan(1) prints them; needed for ssh, where none is believed at first sight.";
        example = [ "forge.example.org ssh-ed25519 AAAA…" ];
      };
      sshKey = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "The secret, by its name in `secrets`, that is the private key for ssh.";
        example = "deploy-key";
      };
      token = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "The secret that is the access token for https.";
        example = "forge-token";
      };
      webhook = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "The secret that a webhook to `/v1/git/nudge` is signed with. `null`: webhooks are refused.";
        example = "forge-webhook";
      };
    };
    settingsFile = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      description = "What git is told, as the gateway reads it.";
      example = literalExpression "config.services.carrel.git.settingsFile";
    };
  };

  config = lib.mkMerge [
    {
      services.carrel.git.enable = git.push.enable || git.pull.url != null;
      services.carrel.git.settingsFile = json.generate "carrel-git.json" (
        if git.push.enable then { push = hosted; } else { pull = pull; }
      );
    }
    (lib.mkIf (cfg.enable && git.enable) {
      services.carrel.settings.git = lib.mkDefault "${git.settingsFile}";
    })
    (lib.mkIf (cfg.enable && git.push.enable) {
      # sshd runs the forced command of the key that was shown, by a shell; it gives git on one repository and nothing else.
      users.users.carrel = lib.mkIf (cfg.user == "carrel") {
        shell = "/bin/sh";
        openssh.authorizedKeys.keys = builtins.concatLists (
          lib.mapAttrsToList (name: keys: map (forced name) keys) git.push.authorizedKeys
        );
      };
      services.openssh.enable = lib.mkDefault true;
      services.openssh.extraConfig = ''
        Match User ${cfg.user}
          AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u ${state}/git/authorized_keys
          AuthenticationMethods publickey
          PermitTTY no
          PermitUserRC no
          DisableForwarding yes
          X11Forwarding no
          MaxSessions 4
        Match all
      '';
    })
  ];
}
