// Escape sequences that would do more than draw: none of them does anything here.
//
// A program's output may come from anywhere. It must neither reach the clipboard, the page's title or another page, nor
// have the terminal type for whoever looks, as answers to questions about itself would.

const QUESTIONS = [
  { final: "c" }, { prefix: ">", final: "c" }, { prefix: "=", final: "c" },
  { final: "n" }, { prefix: "?", final: "n" }, { prefix: ">", final: "q" },
  { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" },
  { final: "t" }, { final: "x" }, { prefix: "?", final: "u" },
];
const COMMANDS = [0, 1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 22, 50, 52, 99, 777, 1337];

export function makeInert(terminal) {
  const nothing = () => true;
  for (const id of QUESTIONS) terminal.parser.registerCsiHandler(id, nothing);
  for (const number of COMMANDS) terminal.parser.registerOscHandler(number, nothing);
  terminal.parser.registerDcsHandler({ intermediates: "$", final: "q" }, nothing);
  terminal.parser.registerDcsHandler({ intermediates: "+", final: "q" }, nothing);
}

// xterm.js makes style elements as it goes, and styles as attributes: this page's policy asks the former for the page's
// own word, and takes the latter only as properties.
export function allowStyles(nonce) {
  const set = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style") this.style.cssText = value;
    else set.call(this, name, value);
  };
  const create = document.createElement.bind(document);
  document.createElement = (name, options) => {
    const made = create(name, options);
    if (String(name).toLowerCase() === "style") made.nonce = nonce;
    return made;
  };
}
