"use strict";

// Without the validator, which would send the document to a third party.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null });
