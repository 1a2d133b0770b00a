/** Reads JSON schemas of an OpenAPI document for people. */
export class SchemaReader {
  constructor(api) {
    this.schemas = api.components.schemas;
  }

  /** The fields of an object, the required ones first. */
  fields(schema) {
    const whole = this.#resolved(schema);
    const required = new Set(whole.required ?? []);
    const all = Object.entries(whole.properties ?? {}).map(([name, one]) => ({
      ...this.describe(one),
      name,
      isRequired: required.has(name),
      description: one.description ?? "",
    }));
    return [...all.filter((one) => one.isRequired), ...all.filter((one) => !one.isRequired)];
  }

  /** What a value is, and the objects that it consists of. */
  describe(schema) {
    return {
      type: this.#type(schema),
      objects: this.#objects(schema),
      default: schema.default === undefined ? null : JSON.stringify(schema.default),
    };
  }

  #named(schema) {
    return schema.$ref ? schema.$ref.split("/").at(-1) : null;
  }

  /** Without references and `allOf`, at its top. */
  #resolved(schema) {
    if (schema.$ref) return this.#resolved(this.schemas[this.#named(schema)]);
    return (schema.allOf ?? []).map((part) => this.#resolved(part)).reduce(merged, schema);
  }

  #type(schema) {
    const name = this.#named(schema);
    if (name) return this.schemas[name].enum ? this.#type(this.schemas[name]) : name;
    if (schema.anyOf) return schema.anyOf.map((one) => this.#type(one)).join(" or ");
    if (schema.allOf) return this.#type(schema.allOf[0]);
    if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.type === "array") return `list of ${this.#type(schema.items ?? {})}`;
    if (schema.contentSchema) return `text: JSON of ${this.#type(schema.contentSchema)}`;
    return [schema.type ?? "anything", this.#range(schema)].filter(Boolean).join(", ");
  }

  #range({ minimum, exclusiveMinimum, maximum, format }) {
    if (format) return format;
    const low = minimum !== undefined ? `≥ ${minimum}` : exclusiveMinimum !== undefined ? `> ${exclusiveMinimum}` : "";
    const high = maximum !== undefined ? `≤ ${maximum}` : "";
    return [low, high].filter(Boolean).join(", ");
  }

  #objects(schema) {
    const name = this.#named(schema);
    const target = this.#resolved(schema);
    if (target.properties) return [{ name: name ?? this.#type(schema), schema }];
    const inner = [...(target.anyOf ?? []), target.items, target.contentSchema].filter(Boolean);
    return inner.flatMap((one) => this.#objects(one));
  }
}

function merged(whole, part) {
  const properties = { ...part.properties };
  for (const [name, one] of Object.entries(whole.properties ?? {})) properties[name] = { ...properties[name], ...one };
  return { ...part, ...whole, properties, required: [...(whole.required ?? []), ...(part.required ?? [])] };
}
