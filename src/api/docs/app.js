// Renders openapi.json. Text only ever becomes text nodes, so nothing in the document is markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) made.append(child);
  }
  return made;
}

// Paragraphs, with `code` between back-quotes.
function prose(text) {
  return (text ?? "").split(/\n\n+/).filter(Boolean).map((paragraph) =>
    element("p", {}, inline(paragraph.replace(/\n/g, " "))));
}

function inline(text) {
  return (text ?? "").split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));
}

function schemaName(reference) {
  return decodeURIComponent(reference.slice(reference.lastIndexOf("/") + 1));
}

function schemaLink(reference) {
  const name = schemaName(reference);
  return element("a", { href: `#schema-${name}` }, name);
}

// A type in a few words: "string (date-time) or null", "list of MessageView".
function typeOf(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["any"];
  if (schema.$ref) return [schemaLink(schema.$ref)];
  const either = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (either) return either.flatMap((one, at) => (at ? [" or ", ...typeOf(one)] : typeOf(one)));
  if (schema.enum) return schema.enum.flatMap((value, at) => [at ? " | " : "", element("code", {}, JSON.stringify(value))]);
  const types = [schema.type ?? "any"].flat();
  return types.flatMap((type, at) => {
    const words = type === "array" && schema.items ? ["list of ", ...typeOf(schema.items)]
      : [type + (schema.format && type !== "null" ? ` (${schema.format})` : "")];
    return at ? [" or ", ...words] : words;
  });
}

function limits(schema) {
  const names = { minimum: "from", maximum: "to", minLength: "at least", maxLength: "at most", pattern: "matching", default: "default" };
  return Object.entries(names).filter(([key]) => schema?.[key] !== undefined)
    .map(([key, word]) => `${word} ${schema[key]}`).join(", ");
}

function table(heads, rows) {
  if (rows.length === 0) return null;
  return element("table", {},
    element("thead", {}, element("tr", {}, heads.map((head) => element("th", {}, head)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell) => element("td", {}, cell))))));
}

// An example value of a schema: its own, or one made from its properties' examples.
function exampleOf(schema, components, depth = 0) {
  if (!schema || depth > 5) return null;
  if (schema.example !== undefined) return schema.example;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.$ref) return exampleOf(components[schemaName(schema.$ref)], components, depth + 1);
  const either = (schema.oneOf ?? schema.anyOf ?? schema.allOf)?.filter((one) => one.type !== "null");
  if (either?.length) return exampleOf(either[0], components, depth + 1);
  if (schema.enum) return schema.enum[0];
  const type = [schema.type].flat().find((one) => one !== "null");
  if (type === "object" && schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties)
      .map(([name, property]) => [name, exampleOf(property, components, depth + 1)]));
  }
  if (type === "array") return schema.items ? [exampleOf(schema.items, components, depth + 1)] : [];
  if (schema.format === "date-time") return "2026-03-01T09:30:00Z";
  return { string: "…", integer: 1, number: 0.5, boolean: false }[type] ?? null;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function curl(method, path, operation, components) {
  const parameters = operation.parameters ?? [];
  const value = (parameter) => String(parameter.example ?? parameter.schema?.example ?? `{${parameter.name}}`);
  let url = path;
  for (const parameter of parameters.filter((one) => one.in === "path")) {
    url = url.replace(`{${parameter.name}}`, value(parameter));
  }
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}${quoted(location.origin + url)}`];
  if (operation.security?.length) lines.push(`-H "Authorization: Bearer $TOKEN"`);
  for (const parameter of parameters.filter((one) => one.in === "header" && one.required)) {
    lines.push(`-H ${quoted(`${parameter.name}: a-name-of-your-own`)}`);
  }
  const body = operation.requestBody?.content?.["application/json"];
  if (body) {
    const example = body.example ?? exampleOf(body.schema, components);
    lines.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(example))}`);
  }
  return element("pre", {}, lines.join(" \\\n  "));
}

function parameterTable(operation) {
  return table(["parameter", "in", "type", ""], (operation.parameters ?? []).map((parameter) => [
    [element("code", {}, parameter.name), parameter.required ? " (required)" : ""],
    parameter.in,
    [...typeOf(parameter.schema), limits(parameter.schema) ? `, ${limits(parameter.schema)}` : ""],
    inline(parameter.description),
  ]));
}

function responseTable(operation) {
  return table(["answer", "", "body"], Object.entries(operation.responses ?? {}).map(([status, response]) => [
    element("code", {}, status),
    inline(response.description),
    Object.entries(response.content ?? {}).flatMap(([type, content], at) =>
      [at ? ", " : "", ...typeOf(content.schema), ` as ${type}`]),
  ]));
}

function renderOperation(method, path, operation, components) {
  const body = operation.requestBody?.content?.["application/json"];
  return element("section", { id: operation.operationId, class: "operation" },
    element("h3", {},
      element("span", { class: `method ${method}` }, method.toUpperCase()), " ",
      element("code", {}, path), " ",
      element("a", { href: `#${operation.operationId}`, class: "anchor" }, operation.operationId)),
    element("p", { class: "summary" }, inline(operation.summary)),
    prose(operation.description),
    operation.security?.length ? null : element("p", { class: "note" }, "Needs no token."),
    parameterTable(operation),
    body ? [element("h4", {}, "Body"), element("p", {}, typeOf(body.schema)), prose(operation.requestBody.description)] : null,
    element("h4", {}, "Answers"),
    responseTable(operation),
    element("h4", {}, "Try"),
    curl(method, path, operation, components));
}

function renderSchema(name, schema, components) {
  const required = new Set(schema.required ?? []);
  const properties = Object.entries(schema.properties ?? {}).map(([key, property]) => [
    [element("code", {}, key), required.has(key) ? "" : " (optional)"],
    [...typeOf(property), limits(property) ? `, ${limits(property)}` : ""],
    inline(property.description),
  ]);
  return element("section", { id: `schema-${name}`, class: "schema" },
    element("h3", {}, element("a", { href: `#schema-${name}`, class: "anchor" }, name)),
    prose(schema.description),
    properties.length ? table(["field", "type", ""], properties) : element("p", {}, typeOf(schema)),
    properties.length ? element("details", {}, element("summary", {}, "Example"),
      element("pre", {}, JSON.stringify(exampleOf(schema, components), null, 2))) : null);
}

function renderProblems(problems) {
  const rows = problems.map((problem) => {
    const anchor = problem.type.slice(problem.type.indexOf("#") + 1);
    return element("tr", { id: anchor },
      element("td", {}, element("code", {}, String(problem.status))),
      element("td", {}, element("a", { href: `#${anchor}` }, problem.type)),
      element("td", {}, problem.title));
  });
  return element("section", { id: "problems" }, element("h2", {}, "Problems"),
    element("p", {}, "Errors are ", element("code", {}, "application/problem+json"), " (RFC 9457): ",
      element("a", { href: "#schema-Problem" }, "Problem"), "."),
    element("table", {}, element("tbody", {}, rows)));
}

function render(api) {
  const components = api.components?.schemas ?? {};
  const shared = api.components?.parameters ?? {};
  const resolved = (operation) => ({
    ...operation,
    parameters: operation.parameters?.map((one) => (one.$ref ? shared[schemaName(one.$ref)] : one)),
  });
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: resolved(item[method]) })));
  const tags = api.tags ?? [];
  const ofTag = (tag) => operations.filter(({ operation }) => operation.tags?.includes(tag.name));
  const link = (to, text) => element("li", {}, element("a", { href: `#${to}` }, text));

  document.getElementById("contents").replaceChildren(
    element("h1", {}, element("a", { href: "#document" }, api.info.title), " ", element("small", {}, api.info.version)),
    ...tags.flatMap((tag) => [
      element("h2", {}, tag.name),
      element("ul", {}, ofTag(tag).map(({ operation }) => link(operation.operationId, operation.operationId))),
    ]),
    element("h2", {}, "Reference"),
    element("ul", {}, link("problems", "Problems"), Object.keys(components).map((name) => link(`schema-${name}`, name))));

  document.getElementById("document").replaceChildren(
    element("h1", {}, `${api.info.title} API`),
    ...prose(api.info.description),
    element("p", {}, "The document itself: ", element("a", { href: "openapi.json" }, "openapi.json"), ` (OpenAPI ${api.openapi}).`),
    ...tags.flatMap((tag) => [
      element("h2", { id: `tag-${tag.name}` }, tag.name),
      ...prose(tag.description),
      ...ofTag(tag).map(({ method, path, operation }) => renderOperation(method, path, operation, components)),
    ]),
    renderProblems(api["x-problems"] ?? []),
    element("h2", {}, "Schemas"),
    ...Object.entries(components).map(([name, schema]) => renderSchema(name, schema, components)));

  // What the address names is there only now.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

fetch("openapi.json")
  .then((answer) => answer.ok ? answer.json() : Promise.reject(new Error(`answered ${answer.status}`)))
  .then(render)
  .catch((error) => {
    document.getElementById("document").replaceChildren(element("p", { role: "alert" }, `openapi.json could not be read: ${error.message}`));
  });
