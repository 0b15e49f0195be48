# Prometheus of this host: the gateway among what it looks at, and what to be woken for.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.carrel;
  inherit (lib) mkOption mkEnableOption types;
  host =
    if lib.hasInfix ":" cfg.listen.address then "[${cfg.listen.address}]" else cfg.listen.address;
  rules = {
    groups = [
      {
        name = "carrel";
        rules = [
          {
            alert = "CarrelDown";
            expr = ''up{job="carrel"} == 0'';
            for = "2m";
            labels.severity = "page";
            annotations.summary = "The gateway on {{ $labels.instance }} does not answer: systemctl status carrel";
          }
          {
            alert = "CarrelRestarts";
            expr = ''changes(process_start_time_seconds{job="carrel"}[15m]) > 3'';
            labels.severity = "page";
            annotations.summary = "The gateway on {{ $labels.instance }} starts again and again: journalctl -u carrel";
          }
        ];
      }
    ];
  };
in
{
  options.services.carrel.metrics = {
    enable = mkEnableOption "scraping of the gateway by this host's Prometheus (`services.prometheus`)";
    interval = mkOption {
      type = types.str;
      default = "15s";
      description = "How often Prometheus looks.";
      example = "1m";
    };
    alerts = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to add rules that tell of a gateway that does not answer or does not stay up.";
      example = false;
    };
  };

  config = lib.mkIf (cfg.enable && cfg.metrics.enable) {
    services.prometheus = {
      scrapeConfigs = [
        {
          job_name = "carrel";
          scrape_interval = cfg.metrics.interval;
          static_configs = [ { targets = [ "${host}:${toString cfg.listen.port}" ]; } ];
        }
      ];
      rules = lib.mkIf cfg.metrics.alerts [ (builtins.toJSON rules) ];
    };
  };
}
