# Every option of `services.carrel` that somebody may set, by its path: type, default, example, description.
options:
let
  isOption = value: builtins.isAttrs value && (value._type or "") == "option";
  text =
    value:
    if builtins.isAttrs value && (value._type or "") == "literalExpression" then
      { nix = value.text; }
    else
      { json = value; };
  below =
    path: type:
    if type ? options then
      walk path type.options
    else if type ? nested then
      below (path ++ [ type.placed ]) type.nested
    else
      [ ];
  one =
    path: option:
    if option.internal or false then
      [ ]
    else
      [
        (
          {
            path = builtins.concatStringsSep "." path;
            type = option.type.name;
            description = option.description;
            example = text option.example;
          }
          // (
            if option ? defaultText then
              { default = text option.defaultText; }
            else if option ? default then
              { default = text option.default; }
            else
              { }
          )
        )
      ]
      ++ below path option.type;
  walk =
    path: tree:
    builtins.concatLists (
      map (
        name:
        let
          value = tree.${name};
          here = path ++ [ name ];
        in
        if isOption value then one here value else walk here value
      ) (builtins.attrNames tree)
    );
in
walk [ "services" "carrel" ] options
