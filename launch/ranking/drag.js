// Cards that follow the pointer, of a mouse, a pen or a finger, while it holds their handle.

const EDGE = 70; // pixels from the end of the window, within which the page scrolls along
const STEP = 12; // pixels that it then scrolls, each frame

/** `dropped(card, position)` is told where an element of `list` was let go, once it stands there. */
export function dragByHandle(list, handle, dropped) {
  list.addEventListener("pointerdown", (down) => {
    const held = down.target.closest(handle);
    const card = held?.closest("li");
    if (!card || down.button !== 0 || down.target.closest("select")) return;
    down.preventDefault();
    held.setPointerCapture(down.pointerId);
    card.focus({ preventScroll: true });
    card.classList.add("dragged");
    const start = [...list.children].indexOf(card);
    const grip = down.clientY - card.getBoundingClientRect().top; // where it is held
    let at = down.clientY;
    let frame = requestAnimationFrame(follow);

    function follow() {
      const scroll = at < EDGE ? -STEP : at > innerHeight - 2 * EDGE ? STEP : 0; // the bar covers the lower end
      if (scroll) scrollBy(0, scroll);
      place();
      frame = requestAnimationFrame(follow);
    }

    function place() {
      card.style.transform = "";
      const height = card.offsetHeight;
      const top = at - grip;
      const others = [...list.children].filter((each) => each !== card);
      const middle = (each) => each.getBoundingClientRect().top + each.offsetHeight / 2;
      const place = [...list.children].indexOf(card);
      // It changes places with a neighbour once its own edge is over the middle of that one. The neighbours are moved: a card
      // taken out of the page, even to be put back, is no longer held.
      const above = others.slice(0, place).findIndex((each) => top < middle(each));
      const below = others.slice(place).findLastIndex((each) => top + height > middle(each));
      if (above >= 0) card.after(...others.slice(above, place));
      else if (below >= 0) card.before(...others.slice(place, place + below + 1));
      card.style.transform = `translateY(${at - grip - card.getBoundingClientRect().top}px)`;
    }

    const moved = (event) => (at = event.clientY);
    const ended = (event) => {
      cancelAnimationFrame(frame);
      if (event.type === "pointerup") place();
      held.removeEventListener("pointermove", moved);
      held.removeEventListener("pointerup", ended);
      held.removeEventListener("pointercancel", ended);
      card.classList.remove("dragged");
      card.style.transform = "";
      const end = [...list.children].indexOf(card);
      if (end !== start) dropped(card, end);
    };
    held.addEventListener("pointermove", moved);
    held.addEventListener("pointerup", ended);
    held.addEventListener("pointercancel", ended);
  });
}
