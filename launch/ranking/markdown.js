// The little of Markdown that instructions need: headings, paragraphs, lists with "-", and **bold**. All else is text.

/** Elements for a text, block by block. */
export function markdown(text) {
  return text.split(/\n\s*\n/).flatMap((block) => {
    const lines = block.trim().split("\n");
    if (!lines[0]) return [];
    const heading = /^(#{1,3}) (.*)/.exec(lines[0]);
    if (heading) {
      const rest = lines.slice(1).join("\n");
      return [element(`h${heading[1].length + 1}`, heading[2]), ...markdown(rest)];
    }
    if (!lines[0].startsWith("- ")) return [element("p", lines.join(" "))];
    const list = document.createElement("ul");
    const items = lines.join("\n").split(/^- /m).slice(1);
    list.append(...items.map((item) => element("li", item.replace(/\s*\n\s*/g, " "))));
    return [list];
  });
}

function element(tag, text) {
  const whole = document.createElement(tag);
  text.split("**").forEach((part, i) => {
    if (!(i % 2)) return whole.append(part);
    const bold = document.createElement("strong");
    bold.textContent = part;
    whole.append(bold);
  });
  return whole;
}
