# A machine to look at, without a machine: `nix run .#vm`. The sample tenants, no secret, the gateway at the same port here.
{ pkgs, ... }:
{
  networking.hostName = "carrel-trial";
  services.carrel = {
    enable = true;
    requireClosure = false;
    # The sample declarations, with the packages that are built along with the machine.
    tenantsDir = "${pkgs.runCommand "tenants.d" { } ''
      mkdir $out
      cp ${../tenants.d}/*.yaml $out/
      chmod u+w $out/*.yaml
      sed -i 's/source: test-set/source: index/' $out/_gateway.yaml
    ''}";
    packages.names = [
      "git"
      "jq"
      "python3"
      "ripgrep"
    ];
    # In the machine alone, whose ports are forwarded.
    listen.address = "0.0.0.0";
    openFirewall = true;
  };

  services.getty.autologinUser = "root";
  users.motd = "carrel status; carrel tenants token issue demo --name me; carrel chat demo \"run: uname -a\"";
  virtualisation.vmVariant.virtualisation = {
    memorySize = 2048;
    cores = 2;
    graphics = false;
    forwardPorts = [
      {
        from = "host";
        host.port = 18789;
        guest.port = 18789;
      }
    ];
  };

  boot.loader.grub.device = "/dev/vda";
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  system.stateVersion = "25.11";
}
