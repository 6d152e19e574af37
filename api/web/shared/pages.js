// Lists that come page by page, when their first page is read again.

/**
 * The items and the cursor of a list whose first page was read again: what stood behind it stays.
 * @param {{items: any[], next_cursor: any}} page
 * @param {{items: any[], cursor: any}} before
 */
export function renewed({ items, next_cursor: next }, before) {
  const last = next ? before.items.findIndex(({ id }) => id === items.at(-1).id) : -1;
  const behind = last < 0 ? [] : before.items.slice(last + 1);
  return { items: [...items, ...behind], cursor: behind.length > 0 ? before.cursor : next };
}
