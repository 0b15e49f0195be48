# A machine to look at: the sample tenants, no secret, the host's userland where a closure is not built yet.
{ ... }:
{
  services.carrel = {
    enable = true;
    requireClosure = false;
    tenantsDir = "/etc/carrel/tenants.d";
  };

  boot.loader.grub.device = "/dev/vda";
  fileSystems."/" = { device = "/dev/disk/by-label/nixos"; fsType = "ext4"; };
  system.stateVersion = "25.11";
}
