# A small library by the names of nixpkgs' own: options with types, modules with conditions and priorities. An option that is
# declared is checked; what is set without one is merged as it comes, for the rest of NixOS is not here.
let
  inherit (builtins)
    all
    any
    attrNames
    concatLists
    elem
    filter
    foldl'
    head
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    map
    substring
    stringLength
    tail
    ;
in
rec {
  genAttrs =
    names: value:
    listToAttrs (
      map (name: {
        inherit name;
        value = value name;
      }) names
    );
  inherit (builtins)
    concatStringsSep
    all
    any
    elem
    filter
    attrNames
    compareVersions
    ;
  nameValuePair = name: value: { inherit name value; };
  mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  filterAttrs =
    keep: set:
    listToAttrs (
      map (name: {
        inherit name;
        value = set.${name};
      }) (filter (name: keep name set.${name}) (attrNames set))
    );
  attrValues = set: map (name: set.${name}) (attrNames set);
  optional = condition: value: if condition then [ value ] else [ ];
  optionalString = condition: text: if condition then text else "";
  removePrefix =
    prefix: text: if hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasInfix = part: text: builtins.replaceStrings [ part ] [ "" ] text != text;
  versionAtLeast = have: wanted: builtins.compareVersions have wanted >= 0;
  escapeShellArgs = words: builtins.concatStringsSep " " (map escapeShellArg words);
  escapeShellArg =
    word:
    if builtins.match "[A-Za-z0-9,._+:@%/=-]+" (toString word) != null then
      toString word
    else
      "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString word)}'";
  importTOML = path: builtins.fromTOML (builtins.readFile path);
  makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
  makeLibraryPath =
    packages: builtins.concatStringsSep ":" (map (package: "${package}/lib") packages);
  unique = list: foldl' (seen: item: if elem item seen then seen else seen ++ [ item ]) [ ] list;
  isDerivation = value: isAttrs value && (value.type or "") == "derivation";
  licenses.asl20 = {
    spdxId = "Apache-2.0";
  };

  mkOption = option: { _type = "option"; } // option;
  mkEnableOption =
    what:
    mkOption {
      type = types.bool;
      default = false;
      description = "Whether to enable ${what}.";
      example = true;
    };
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;

  types = rec {
    simple = name: check: {
      inherit name check;
      merge = path: values: lastOf path values;
    };
    bool = simple "boolean" isBool;
    str = simple "string" isString;
    path = simple "absolute path" (value: isPath value || (isString value && hasPrefix "/" value));
    port = simple "port" (value: isInt value && value >= 0 && value <= 65535);
    ints.between =
      low: high:
      simple "integer between ${toString low} and ${toString high}" (
        value: isInt value && value >= low && value <= high
      );
    nullOr = inner: {
      name = "null or ${inner.name}";
      check = value: value == null || inner.check value;
      merge = path: values: if all (value: value == null) values then null else inner.merge path values;
    };
    package = simple "package" isDerivation;
    enum = names: simple "one of ${builtins.concatStringsSep ", " names}" (value: elem value names);
    listOf = inner: {
      nested = inner;
      placed = "*";
      name = "list of ${inner.name}";
      check = value: isList value && all inner.check value;
      merge = _: concatLists;
    };
    either = first: second: {
      name = "${first.name} or ${second.name}";
      check = value: first.check value || second.check value;
      merge =
        path: values:
        if first.check (head values) then first.merge path values else second.merge path values;
    };
    strMatching =
      pattern:
      simple "string of the form ${pattern}" (
        value: isString value && builtins.match pattern value != null
      );
    anything = {
      name = "anything";
      check = _: true;
      merge = path: values: merged path values;
    };
    attrsOf = inner: {
      nested = inner;
      placed = "<name>";
      name = "set of ${inner.name}";
      check = isAttrs;
      merge =
        path: values:
        let
          names = unique (concatLists (map attrNames values));
        in
        genAttrs names (
          name:
          checked (path ++ [ name ]) inner (
            map (value: value.${name}) (filter (value: value ? ${name}) values)
          )
        );
    };
    submodule = module: {
      options = module.options or { };
      name = "submodule";
      check = isAttrs;
      merge =
        path: values: settleIn { free = module ? freeformType; } path (module.options or { }) values;
    };
  };

  # The one value, or the same one several times.
  lastOf =
    path: values:
    if all (value: value == head values) values then
      head values
    else
      throw "the option `${builtins.concatStringsSep "." path}' is set to different values";

  checked =
    path: type: values:
    let
      wrong = filter (value: !(type.check value)) values;
    in
    if wrong != [ ] then
      throw "the option `${builtins.concatStringsSep "." path}' is not of type ${type.name}"
    else
      type.merge path values;

  # What is left of a definition once its conditions and priorities are known: a list of { priority, value }.
  discharge =
    priority: value:
    if !(isAttrs value) then
      [ { inherit priority value; } ]
    else if (value._type or "") == "if" then
      (if value.condition then discharge priority value.content else [ ])
    else if (value._type or "") == "merge" then
      concatLists (map (discharge priority) value.contents)
    else if (value._type or "") == "override" then
      discharge value.priority value.content
    else
      [ { inherit priority value; } ];

  # Conditions around a whole module go to what is in it: they may ask for what another part of the same module sets.
  pushed =
    value:
    if (value._type or "") == "if" then
      map (builtins.mapAttrs (_: inner: mkIf value.condition inner)) (pushed value.content)
    else if (value._type or "") == "merge" then
      concatLists (map pushed value.contents)
    else if (value._type or "") == "override" then
      map (builtins.mapAttrs (_: mkOverride value.priority)) (pushed value.content)
    else
      [ value ];

  strongest =
    definitions:
    let
      least = foldl' (a: b: if b.priority < a then b.priority else a) 10000 definitions;
    in
    map (d: d.value) (filter (d: d.priority == least) definitions);

  isOption = value: isAttrs value && (value._type or "") == "option";
  isPlain = value: isAttrs value && !(value ? _type) && !(isDerivation value);

  # Options are a tree; so are values. Declared leaves are checked, unknown ones refused only where nothing else may be set.
  settle = settleIn { free = false; };
  settleIn =
    { free }:
    path: options: values:
    let
      sets = concatLists (map pushed values);
      names = unique (attrNames options ++ concatLists (map attrNames sets));
      under = name: map (set: set.${name}) (filter (set: set ? ${name}) sets);
      ours = length path >= 2 && elem "carrel" path;
      unknown = filter (name: !(options ? ${name})) names;
    in
    if ours && !free && unknown != [ ] then
      throw "the option `${builtins.concatStringsSep "." (path ++ [ (head unknown) ])}' does not exist"
    else
      genAttrs names (
        name:
        let
          here = path ++ [ name ];
        in
        if !(options ? ${name}) then
          merged here (under name)
        else if ours && free && !(isOption options.${name}) then
          settleIn { inherit free; } here options.${name} (under name)
        else if isOption options.${name} then
          let
            option = options.${name};
            definitions = concatLists (map (discharge 100) (under name));
            all' =
              definitions
              ++ (
                if option ? default then
                  [
                    {
                      priority = 1500;
                      value = option.default;
                    }
                  ]
                else
                  [ ]
              );
          in
          if all' == [ ] then
            throw "the option `${builtins.concatStringsSep "." here}' is used but not defined"
          else
            checked here option.type (strongest all')
        else
          settle here options.${name} (under name)
      );

  # Without an option: sets are merged, lists joined, of anything else there is one.
  merged =
    path: values:
    let
      definitions = concatLists (map (discharge 100) values);
      strong = strongest definitions;
      names = unique (concatLists (map (d: attrNames d.value) definitions));
    in
    if definitions == [ ] then
      null
    else if all (d: isPlain d.value) definitions then
      filterAttrs (_: value: value != null) (
        genAttrs names (
          name:
          merged (path ++ [ name ]) (map (d: d.value.${name}) (filter (d: d.value ? ${name}) definitions))
        )
      )
    else if all isList strong then
      concatLists strong
    else
      lastOf path strong;

  evalModules =
    { modules, arguments }:
    let
      load =
        module:
        let
          content = if isPath module || isString module then import module else module;
          value = if isFunction content then content (arguments // { config = result; }) else content;
        in
        [ value ] ++ concatLists (map load (value.imports or [ ]));
      loaded = concatLists (map load modules);
      optionTree = foldl' deepMerge { } (map (m: m.options or { }) loaded);
      configOf =
        module:
        if module ? config || module ? options then
          module.config or { }
        else
          builtins.removeAttrs module [
            "imports"
            "_file"
          ];
      result = settle [ ] optionTree (concatLists (map (module: pushed (configOf module)) loaded));
    in
    {
      config = result;
      options = optionTree;
    };

  deepMerge =
    a: b:
    a
    // genAttrs (attrNames b) (
      name:
      if a ? ${name} && isAttrs a.${name} && isAttrs b.${name} && !(isOption a.${name}) then
        deepMerge a.${name} b.${name}
      else
        b.${name}
    );
}
