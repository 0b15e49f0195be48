# One machine that serves a hundred tenants: declarations are pushed to it, answers go out through TLS, backups to S3.
{ ... }:
{
  networking.hostName = "agents";
  services.openssh.enable = true;
  services.carrel = {
    enable = true;
    openFirewall = true;
    tls = {
      enable = true;
      domain = "agents.example.org";
    };
    git.push = {
      enable = true;
      authorizedKeys.alice = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJr6Yk0lB1bqXn9O5cS0i3mS6b1zVw8o3mJpQd2uH0aa alice@laptop"
      ];
    };
    secrets.anthropic.file = "/run/keys/anthropic";
    secrets.openai.file = "/run/keys/openai";
    secrets.carrel-master-key.file = "/run/keys/carrel-master-key";
    metrics.enable = true;
    # What tenants may have without a build: `packages: {source: index}` in _gateway.yaml.
    packages.names = [
      "curl"
      "git"
      "jq"
      "python3"
      "ripgrep"
    ];
  };
  services.prometheus.enable = true;

  # What every NixOS host needs, and this one has in its own way.
  boot.loader.grub.device = "/dev/vda";
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  system.stateVersion = "25.11";
}
