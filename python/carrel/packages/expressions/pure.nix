# How every evaluation of Carrel's begins: the whole of what it may read is in `inputs` (JSON: path, name and sha256 of each),
# which are in the store already. `expression` is the file to evaluate, in the first of them; `plain` and `pinned` (JSON) are
# its arguments: text, and the number of an input. `packages` is a list of names and nothing else.
{
  inputs,
  expression,
  system,
  plain,
  pinned,
  packages ? null,
}:
let
  inherit (builtins)
    elemAt
    fromJSON
    functionArgs
    intersectAttrs
    mapAttrs
    path
    ;
  given = map (input: "${path input}") (fromJSON inputs);
  named = if packages == null then { } else { inherit packages; };
  all = {
    inherit system;
  }
  // named
  // fromJSON plain
  // mapAttrs (_: elemAt given) (fromJSON pinned);
  function = import (elemAt given 0 + "/${expression}");
in
function (intersectAttrs (functionArgs function) all)
