/** What the worker of docker-compose.yml runs until SNAPFLIP_CONFIG names a file of your own: every service, no dataset. */
export default {
  database: process.env.DATABASE_URL,
  temporal: { address: process.env.TEMPORAL_ADDRESS },
  stores: {
    hot: process.env.REDIS_URL,
    archive: process.env.S3_URL,
  },
  datasets: {},
}
