# TLS: a reverse proxy before the gateway, with what streams, WebSockets and long answers want of one.
{ config, lib, ... }:
let
  cfg = config.services.carrel;
  tls = cfg.tls;
  inherit (lib) mkOption mkEnableOption types;
  host =
    if lib.hasInfix ":" cfg.listen.address then "[${cfg.listen.address}]" else cfg.listen.address;
  own = "http://${host}:${toString cfg.listen.port}";
  sharded = cfg.shards != { };
  shards = lib.mapAttrsToList (name: shard: shard // { inherit name; }) cfg.shards;
  restOf =
    if sharded && cfg.shards ? ${cfg.shard.rest} then cfg.shards.${cfg.shard.rest}.url else own;
  bare = url: builtins.replaceStrings [ "http://" ] [ "" ] url;
  # Whose a request is: by its token's name, or by the tenant in its path. The gateway judges the token itself.
  names = shard: "(?:${builtins.concatStringsSep "|" shard.tenants})";
  ofToken = shard: "tk_${names shard}_[0-9a-f]{32}";
  ofPath = shard: "/(?:hooks|v1/tenants)/${names shard}(?:/|$)";
  served = builtins.filter (shard: shard.tenants != [ ]) shards;
  # Scrapers come from this host, and a proxy makes everybody look as if they did.
  private = [ "/metrics" ];

  nginxMap = ''
    map "$http_authorization $http_x_api_key $uri" $carrel_shard {
      default carrel_rest;
    ${builtins.concatStringsSep "\n" (
      map (shard: ''
        "~(?:^| )(?:Bearer )?${ofToken shard}(?: |$)" carrel_shard_${shard.name};
        "~ ${ofPath shard}" carrel_shard_${shard.name};'') served
    )}
    }
    upstream carrel_rest { server ${bare restOf}; keepalive 64; }
    ${builtins.concatStringsSep "\n" (
      map (
        shard: "upstream carrel_shard_${shard.name} { server ${bare shard.url}; keepalive 64; }"
      ) served
    )}
  '';
  caddyProxy = url: ''
    reverse_proxy ${bare url} {
      flush_interval -1
    }
  '';
  caddyShard = shard: ''
    @${shard.name}_bearer header_regexp Authorization "^Bearer ${ofToken shard}$"
    @${shard.name}_key header_regexp X-Api-Key "^${ofToken shard}$"
    @${shard.name}_path path_regexp "^${ofPath shard}"
    handle @${shard.name}_bearer {
      ${caddyProxy shard.url}
    }
    handle @${shard.name}_key {
      ${caddyProxy shard.url}
    }
    handle @${shard.name}_path {
      ${caddyProxy shard.url}
    }
  '';
in
{
  options.services.carrel.tls = {
    enable = mkEnableOption "a reverse proxy with TLS before the gateway, by Caddy or nginx of this host";
    domain = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "The name under which the gateway is reached. Its certificate comes from Let's Encrypt.";
      example = "agents.example.org";
    };
    proxy = mkOption {
      type = types.enum [
        "caddy"
        "nginx"
      ];
      default = "caddy";
      description = "Which one. Answers are passed on as they come, WebSockets too, and `/metrics` is not.";
      example = "nginx";
    };
    email = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Where Let's Encrypt writes when a certificate is about to run out. nginx needs it.";
      example = "ops@example.org";
    };
  };

  config = lib.mkIf (cfg.enable && tls.enable && tls.domain != null) {
    services.carrel.settings.listen.names = [ tls.domain ];
    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [
      80
      443
    ];

    services.caddy = lib.mkIf (tls.proxy == "caddy") (
      {
        enable = true;
        virtualHosts.${tls.domain}.extraConfig = ''
          @private path ${builtins.concatStringsSep " " private}
          respond @private 404
          request_body {
            max_size 64MB
          }
          ${builtins.concatStringsSep "\n" (map caddyShard (if sharded then served else [ ]))}
          handle {
            ${caddyProxy restOf}
          }
        '';
      }
      // (if tls.email != null then { email = tls.email; } else { })
    );

    services.nginx = lib.mkIf (tls.proxy == "nginx") {
      enable = true;
      recommendedTlsSettings = true;
      appendHttpConfig = lib.mkIf sharded nginxMap;
      virtualHosts.${tls.domain} = {
        enableACME = true;
        forceSSL = true;
        locations = {
          "/" = {
            proxyPass = if sharded then "http://$carrel_shard" else own;
            proxyWebsockets = true;
            extraConfig = ''
              proxy_set_header Host $host;
              proxy_set_header X-Forwarded-For $remote_addr;
              proxy_buffering off;
              proxy_request_buffering off;
              proxy_read_timeout 3600s;
              proxy_send_timeout 3600s;
              client_max_body_size 64m;
            '';
          };
        }
        // lib.genAttrs private (_: {
          return = "404";
        });
      };
    };
    security.acme = lib.mkIf (tls.proxy == "nginx" && tls.email != null) {
      acceptTerms = true;
      defaults.email = tls.email;
    };
  };
}
