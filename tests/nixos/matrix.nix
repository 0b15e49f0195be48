# Hosts that must evaluate, and hosts that must be refused, with a part of what they are told. Held here against a stand-in
# for NixOS, and by `nix flake check` against NixOS itself.
let
  host = settings: {
    services.carrel = {
      enable = true;
    }
    // settings;
  };
in
{
  right = {
    plain = host { };
    settings = host {
      settings.log.level = "warning";
      settings.drain_seconds = 9;
    };
    elsewhere = host {
      stateDir = "/data/carrel";
      tenantsDir = "/srv/tenants.d";
    };
    declared-here = host { tenantsDir = ../../tenants.d; };
    version-6 = host { listen.address = "::1"; };
    another-user = host {
      user = "agents";
      group = "agents";
    };
    secrets = host {
      secrets.a.file = "/run/keys/a";
      secrets.b = {
        file = "/etc/creds/b";
        encrypted = true;
      };
    };
    push = host {
      git.push.enable = true;
      git.push.authorizedKeys.alice = [ "ssh-ed25519 AAAA alice" ];
    };
    pull-https = host {
      git.pull = {
        url = "https://forge.example.org/t.git";
        token = "t";
        allowedSigners = [ "a ssh-ed25519 AAAA" ];
      };
      secrets.t.file = "/run/keys/t";
    };
    pull-ssh = host {
      git.pull = {
        url = "git@forge.example.org:t.git";
        knownHosts = [ "forge.example.org ssh-ed25519 AAAA" ];
        allowedSigners = [ "a ssh-ed25519 AAAA" ];
      };
    };
    caddy = host {
      tls = {
        enable = true;
        domain = "agents.example.org";
      };
      openFirewall = true;
    };
    nginx = host {
      tls = {
        enable = true;
        domain = "agents.example.org";
        proxy = "nginx";
        email = "ops@example.org";
      };
    };
    metrics = host { metrics.enable = true; };
    shards = host {
      shards.a.url = "http://10.0.0.1:1";
      shards.b = {
        url = "http://10.0.0.2:1";
        tenants = [ "acme" ];
      };
      shard = {
        name = "b";
        rest = "a";
      };
    };
    builds = host { hardening.gatewayBuilds = true; };
    nothing-hardened = host {
      hardening = {
        ioUring = false;
        ptraceScope = false;
        kernelFloor = false;
        socketModules = false;
      };
    };
    packages = host {
      packages.names = [
        "git"
        "jq"
      ];
      packages.sets.more = [ "ripgrep" ];
    };
    backup = host {
      backup = {
        schedule = "daily";
        target = "s3://backups/carrel";
        retention = {
          daily = 30;
          monthly = 0;
        };
      };
    };
    backup-to-disks = host {
      backup = {
        schedule = "daily";
        target = "file:///mnt/a";
        directories = [ "/mnt/b" ];
      };
    };
    restore = host {
      restore.from = "file:///backups";
      restore.when = "missing";
    };
    restore-and-push = host {
      git.push.enable = true;
      restore.from = "s3://backups/x";
    };
    off = {
      services.carrel.enable = false;
    };
  };

  # What is refused by an assertion, with a part of its words.
  refused = {
    root = {
      module = host { user = "root"; };
      says = "never started by root";
    };
    listens-elsewhere = {
      module = host { settings.listen.port = 9; };
      says = "set those";
    };
    state-elsewhere = {
      module = host { settings.state_dir = "/srv/state"; };
      says = "go by services.carrel.stateDir";
    };
    one-place = {
      module = host {
        stateDir = "/srv/t";
        tenantsDir = "/srv/t";
      };
      says = "the same directory";
    };
    state-in-a-home = {
      module = host { stateDir = "/home/carrel"; };
      says = "is in a home";
    };
    state-in-the-store = {
      module = host { stateDir = ./.; };
      says = "which nobody can write";
    };
    secret-in-the-store = {
      module = host { secrets.key.file = ./matrix.nix; };
      says = "key would be in the Nix store";
    };
    secret-as-store-path = {
      module = host { secrets.key.file = "${builtins.storeDir}/abc-key"; };
      says = "key would be in the Nix store";
    };
    secret-relative = {
      module = host { secrets.key.file = "keys/key"; };
      says = "no path from the root";
    };
    secret-name = {
      module = host { secrets."1 key".file = "/run/key"; };
      says = "starts with a letter";
    };
    push-and-pull = {
      module = host {
        git.push.enable = true;
        git.pull.url = "https://forge.example.org/t.git";
      };
      says = "not both";
    };
    host-key = {
      module = host { git.pull.url = "ssh://git@forge.example.org/t.git"; };
      says = "ssh-keyscan";
    };
    no-such-secret = {
      module = host {
        git.pull = {
          url = "https://forge.example.org/t.git";
          token = "tok";
        };
      };
      says = "token names `tok`";
    };
    no-domain = {
      module = host { tls.enable = true; };
      says = "tls.domain";
    };
    no-email = {
      module = host {
        tls = {
          enable = true;
          domain = "a.example.org";
          proxy = "nginx";
        };
      };
      says = "tls.email";
    };
    backup-without-schedule = {
      module = host { backup.retention.daily = 30; };
      says = "set it, or say `backup:";
    };
    verified-without-schedule = {
      module = host { backup.verify = true; };
      says = "verify are of the backups that schedule makes";
    };
    no-shard = {
      module = host {
        shards.a.url = "http://10.0.0.1:1";
        shard.rest = "a";
      };
      says = "which of services.carrel.shards this host is (a)";
    };
    no-rest = {
      module = host {
        shards.a.url = "http://10.0.0.1:1";
        shard.name = "a";
      };
      says = "shard.rest";
    };
    twice = {
      module = host {
        shards.a = {
          url = "http://10.0.0.1:1";
          tenants = [ "x" ];
        };
        shards.b = {
          url = "http://10.0.0.2:1";
          tenants = [ "x" ];
        };
        shard = {
          name = "a";
          rest = "a";
        };
      };
      says = "x would be served by two gateways";
    };
    shard-without-shards = {
      module = host { shard.name = "a"; };
      says = "name the gateways there";
    };
  };

  # What has a wrong type or is no option at all. The words are the library's.
  untyped = {
    port = host { listen.port = 99999; };
    misspelt = host { tenantDir = "/srv/t"; };
    proxy = host { tls.proxy = "apache"; };
    shard-url = host { shards.a.url = "10.0.0.1"; };
    tenant-id = host {
      shards.a = {
        url = "http://10.0.0.1:1";
        tenants = [ "Not An Id" ];
      };
    };
    log-level = host { settings.log.level = "loud"; };
    target = host { backup.target = "ftp://backups"; };
    target-of-two-words = host { backup.target = "s3://backups/a b"; };
    drain = host { drainSeconds = 0; };
    retention = host {
      backup = {
        schedule = "daily";
        retention.last = 0;
      };
    };
    retention-of-hours = host {
      backup = {
        schedule = "daily";
        retention.hourly = 3;
      };
    };
  };
}
