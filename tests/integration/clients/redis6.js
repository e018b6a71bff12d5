// SPDX-License-Identifier: BSD-2-Clause
'use strict';

module.exports = require('./node_redis.js')('redis6');
