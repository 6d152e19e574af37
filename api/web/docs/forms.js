/** Fields of try-it: many files at once, and nothing in place of what was left out. */

const formField = (Original, { React }) => (props) => {
  const { schema, description, required, dispatchInitialValue, onChange } = props;
  const isList = schema.getIn(["items", "format"]) === "binary";
  const field = isList
    ? React.createElement("input", {
        type: "file",
        multiple: true,
        onChange: (event) => onChange([...event.target.files]),
      })
    : React.createElement(Original, {
        ...props,
        // JSON is typed, not chosen as a file.
        schema: schema.delete("contentMediaType"),
        // Swagger UI would send a sample for an optional part.
        dispatchInitialValue: dispatchInitialValue && required,
      });
  return React.createElement(
    "label",
    null,
    React.createElement("span", { className: "sr" }, description),
    field,
  );
};

export const forms = () => ({
  // A part that is left empty is not sent.
  components: { ParameterIncludeEmpty: () => null },
  wrapComponents: { JsonSchemaForm: formField },
});
