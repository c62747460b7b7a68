// No validator: it would send the document to another host.
SwaggerUIBundle({
  dom_id: "#document",
  url: "openapi.json",
  validatorUrl: null,
  deepLinking: true,
  tryItOutEnabled: true,
});
