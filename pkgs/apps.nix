# What `nix run` runs. `vm` is the trial machine, which is of one system only.
{
  packages,
  trial ? null,
}:
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
// (
  if trial == null then
    { }
  else
    {
      vm = {
        type = "app";
        program = "${trial.config.system.build.vm}/bin/run-carrel-trial-vm";
      };
    }
)
