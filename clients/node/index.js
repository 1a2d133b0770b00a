'use strict';

const {SLM} = require('./slm');
const {SLMError} = require('./slm_error');
const {stream, text} = require('./stream');

module.exports = {SLM, SLMError, stream, text};
