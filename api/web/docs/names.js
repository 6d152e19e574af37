/** Names, landmarks and headings for those who hear the page: Swagger UI leaves some out. */

const inRegion =
  (name) =>
  (Original, { React }) =>
  (props) =>
    React.createElement("section", { "aria-label": name }, React.createElement(Original, props));

export const names = () => ({
  wrapComponents: {
    InfoContainer: inRegion("About"),
    AuthorizeBtnContainer: inRegion("Keys"),
    operations: (Original, { React }) => (props) => [
      React.createElement("h2", { key: "heading", className: "sr" }, "Routes"),
      React.createElement(Original, { key: "routes", ...props }),
    ],
    // The button that opens a route does what the link inside it would do.
    DeepLink: (_, { React }) => ({ text }) => React.createElement("span", null, text),
    TextArea: (Original, { React }) => (props) =>
      React.createElement(Original, { "aria-label": "Request body", ...props }),
    ExamplesSelect: (Original, { React }) => (props) =>
      React.createElement("label", null, React.createElement(Original, props)),
    CloseIcon: (Original, { React }) => (props) =>
      React.createElement(Original, {
        ...props,
        "aria-hidden": false,
        "aria-label": "Close",
        role: "img",
      }),
  },
});
