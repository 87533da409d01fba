// What a model says, shown as it comes. It is text whatever it holds: no markup is ever made of it.

const FENCE = /^\s{0,3}```/;

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Paragraphs and code blocks, in time linear in the text: what is complete is never made again.
export class TextWriter {
  #root;
  #block = null; // the paragraph or code that lines go to
  #code = false;
  #line = ""; // the last one, while it is incomplete
  #tail = document.createTextNode(""); // which shows it

  constructor(root) {
    this.#root = root;
  }

  add(text) {
    const lines = (this.#line + text).split("\n");
    this.#line = lines.pop();
    this.#tail.remove();
    for (const line of lines) this.#complete(line);
    if (this.#line && !FENCE.test(this.#line)) {
      this.#tail.data = this.#start() + this.#line;
      this.#open().append(this.#tail);
    }
  }

  end() {
    if (this.#line) this.add("\n");
  }

  #complete(line) {
    if (FENCE.test(line)) {
      this.#code = !this.#code;
      this.#block = null;
      if (this.#code) this.#open();
    } else if (this.#code || line.trim()) {
      const text = this.#start() + line;
      this.#open().append(text);
    } else {
      this.#block = null;
    }
  }

  #start() {
    return this.#block?.firstChild ? "\n" : "";
  }

  #open() {
    if (!this.#block) {
      this.#block = element(this.#code ? "code" : "p");
      this.#root.append(this.#code ? element("pre", { tabIndex: 0 }, this.#block) : this.#block);
    }
    return this.#block;
  }
}
