// The order as data. A list of {index, text, place}: as they stand on the page, each with its place (1 is the best; equal
// places are a tie; null was not placed yet).

export const whole = (cards) => cards.every(({ place }) => place !== null);

/** One card gets a place. Once all have one, they are put in order. */
export function give(cards, card, place) {
  const given = cards.map((each) => (each === card ? Object.assign(each, { place }) : each));
  return whole(given) ? given.sort((a, b) => a.place - b.place) : given; // a stable sort
}

/** One card goes to another position, which then counts for all of them. Those it was not among stay tied. */
export function move(cards, card, to) {
  const placed = whole(cards);
  const list = cards.filter((each) => each !== card);
  list.splice(Math.max(0, Math.min(to, list.length)), 0, card);
  const before = list.map(({ place }) => place);
  list.forEach((each, i) => {
    const tied = placed && i > 0 && before[i] === before[i - 1] && each !== card && list[i - 1] !== card;
    each.place = tied ? list[i - 1].place : i + 1;
  });
  return list;
}

/** What is saved: groups of indices, the best first. */
export function groups(cards) {
  const places = [...new Set(cards.map(({ place }) => place))].sort((a, b) => a - b);
  return places.map((place) => cards.filter((card) => card.place === place).map(({ index }) => index));
}

/** The cards in an order that was saved. */
export function restore(cards, order) {
  let place = 1;
  for (const group of order) {
    for (const card of cards) if (group.includes(card.index)) card.place = place;
    place += group.length;
  }
  return cards.sort((a, b) => a.place - b.place);
}
