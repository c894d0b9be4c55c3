from bench.own import feed_times_ms


def test_every_batch_is_timed(make_image_folder):
    times = feed_times_ms(make_image_folder(), batch_size=4, threads=1, batches=6)
    assert len(times) == 6
    assert all(0 < one < 1000 for one in times)
