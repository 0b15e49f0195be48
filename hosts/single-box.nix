# One machine that serves a hundred tenants behind its own reverse proxy.
{ ... }:
{
  services.carrel = {
    enable = true;
    tenantsDir = "/srv/carrel/tenants.d";
    listen.port = 18789;
    secrets.anthropic.file = "/run/keys/anthropic";
    secrets.openai.file = "/run/keys/openai";
    settings.logLevel = "info";
    # What tenants may have without a build: `packages: {source: index}` in _gateway.yaml.
    packages.names = [ "curl" "git" "jq" "python3" "ripgrep" ];
  };

  # What every NixOS host needs, and this one has in its own way.
  boot.loader.grub.device = "/dev/vda";
  fileSystems."/" = { device = "/dev/disk/by-label/nixos"; fsType = "ext4"; };
  system.stateVersion = "25.11";
}
