# Two machines that follow the same repository; each serves its own tenants. The proxy of `alpha` passes requests on by the
# tenant's token, over a network that nobody else is in (WireGuard, say). To add a machine, add a shard and a host.
name:
{ ... }:
let
  addresses = {
    alpha = "10.100.0.1";
    beta = "10.100.0.2";
  };
in
{
  networking.hostName = name;
  services.carrel = {
    enable = true;
    listen.address = addresses.${name};
    shards = {
      alpha.url = "http://${addresses.alpha}:18789";
      beta = {
        url = "http://${addresses.beta}:18789";
        tenants = [ "acme" ];
      };
    };
    shard = {
      inherit name;
      rest = "alpha";
    };
    git.pull = {
      url = "ssh://git@forge.example.org/team/tenants.git";
      sshKey = "deploy-key";
      knownHosts = [
        "forge.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJr6Yk0lB1bqXn9O5cS0i3mS6b1zVw8o3mJpQd2uH0aa"
      ];
      allowedSigners = [
        "alice@example.org namespaces=\"git\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJr6Yk0lB1bqXn9O5cS0i3mS6b1zVw8o3mJpQd2uH0aa"
      ];
    };
    secrets.deploy-key.file = "/run/keys/deploy-key";
    secrets.anthropic.file = "/run/keys/anthropic";
    secrets.carrel-master-key.file = "/run/keys/carrel-master-key";
    packages.names = [
      "git"
      "jq"
      "python3"
      "ripgrep"
    ];
    tls = {
      enable = name == "alpha";
      domain = "agents.example.org";
    };
    openFirewall = name == "alpha";
  };
  # Only the other gateways and the proxy come in here.
  networking.firewall.interfaces.wg0.allowedTCPPorts = [ 18789 ];

  boot.loader.grub.device = "/dev/vda";
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  system.stateVersion = "25.11";
}
