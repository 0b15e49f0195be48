# What `nix run` runs.
{ packages }:
rec {
  gateway = {
    type = "app";
    program = "${packages.trial}/bin/carrel-trial";
  };
  carrel = {
    type = "app";
    program = "${packages.carrel}/bin/carrel";
  };
  default = gateway;
}
