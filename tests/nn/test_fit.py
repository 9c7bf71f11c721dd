"""Training: it learns, does the same again, goes on after a kill as if nothing had been, and says why it stops."""

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import starconv as sc
from starconv import nn
from starconv.data.digits import digits
from starconv.data.files import FileContentError

TRAINING = textwrap.dedent(
    """
    import os, signal
    import numpy as np
    from starconv import nn
    from starconv.data.digits import digits


    def training(checkpoint=None, die_at=None, **options):
        calls = iter(range(1, 10**6))

        def shifted(batch, rng):
            if next(calls) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return np.roll(batch, rng.integers(-1, 2), axis=3)

        rng = np.random.default_rng(5)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, seed=rng),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(64, 10, seed=rng),
        )
        (images, labels), _ = digits()
        data = images[:200], labels[:200]
        optimizer = nn.SGD(network.parameters(), lr=0.1, momentum=0.9)
        schedule = nn.CosineAnnealingLR(optimizer, 3)
        history = nn.fit(network, data, data, epochs=3, batch_size=32, optimizer=optimizer, schedule=schedule,
                         augment=shifted, checkpoint=checkpoint, checkpoint_seconds=0.0, **options)
        return network, history
    """
)
exec(TRAINING)


def without_times(history):
    return [row._replace(seconds=0) for row in history]


def same(network, other):
    state = network.state_dict()
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(state[name], value)


def test_it_learns_and_does_the_same_again():
    network, history = training()  # noqa: F821
    other, again = training()  # noqa: F821
    same(network, other)
    assert without_times(history) == without_times(again)
    assert history.column("epoch") == [1, 2, 3]
    assert history[-1].loss < history[0].loss
    assert history[-1].validation_accuracy > 0.6
    assert history.column("lr") == pytest.approx([0.1, 0.075, 0.025])
    different, _ = training(seed=1)  # noqa: F821
    assert (different.state_dict()["0.weight"] != network.state_dict()["0.weight"]).any()


def test_killed_and_resumed_it_ends_with_the_same_weights(tmp_path):
    """SIGKILL in the first epoch, then in a later one; the third run ends. An epoch has seven steps."""
    path = tmp_path / "checkpoint.npz"
    for step in (2, 12):
        code = TRAINING + f"training({str(path)!r}, {step}, resume=True)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]
    network, history = training(path, resume=True)  # noqa: F821
    whole, whole_history = training()  # noqa: F821
    same(network, whole)
    assert without_times(history) == without_times(whole_history)
    again, same_history = training(path, resume=True)  # noqa: F821  # nothing is left to do
    same(again, whole)
    assert same_history == history


def small(**options):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, seed=0))
    images = np.random.default_rng(0).random((10, 2, 2))
    return nn.fit(network, (images, np.arange(10) % 2), epochs=1, **options)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "checkpoint.npz"
    small(checkpoint=path)
    small(checkpoint=path, resume=True)
    with pytest.raises(FileContentError, match="seed was 0 and is 1"):
        small(checkpoint=path, resume=True, seed=1)
    with pytest.raises(FileContentError, match="batch_size was 64 and is 5"):
        small(checkpoint=path, resume=True, batch_size=5)
    nn.Linear(2, 2).save(path)
    with pytest.raises(FileContentError, match="a checkpoint of starconv"):
        small(checkpoint=path, resume=True)
    path.write_bytes(b"nothing")
    with pytest.raises(FileContentError):
        small(checkpoint=path, resume=True)


def test_a_loss_that_is_no_number_stops_before_it_spoils_the_weights():
    network = nn.Sequential(nn.Linear(2, 1, seed=0))
    images, targets = np.full((8, 2), 1e3), np.zeros((8, 1))
    optimizer = nn.SGD(network.parameters(), lr=1e30)
    with (
        np.errstate(all="ignore"),
        pytest.raises(nn.TrainingError, match=r"the loss is (nan|inf) in epoch .*1e\+30: lower the learning rate"),
    ):
        nn.fit(network, (images, targets), optimizer=optimizer, loss=nn.MSELoss(), epochs=100)
    network = nn.Sequential(nn.Linear(2, 1, seed=0))
    before = network.state_dict()
    images[3, 1] = np.nan
    with pytest.raises(nn.TrainingError, match=r"epoch 1, step 1.*pictures hold NaN"):
        nn.fit(network, (images, targets), loss=nn.MSELoss())
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_progress_is_shown_when_asked_for(capsys):
    rows = []
    small(progress=True, on_epoch=rows.append)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "epoch 1  loss" in shown.err
    assert "accuracy" in shown.err
    assert "images/s" in shown.err
    assert [row.epoch for row in rows] == [1]
    small(progress=False)
    assert capsys.readouterr().err == ""


def test_predict_leaves_the_mode_as_it_was():
    network = nn.Sequential(nn.Dropout(0.5), nn.Flatten())
    network[1].eval()
    x = np.ones((5, 2, 2))
    np.testing.assert_array_equal(nn.predict(network, x, 2), np.ones((5, 4)))
    assert network[0].training
    assert not network[1].training
    assert nn.evaluate(network, x, np.zeros(5, int))[1] == 1
    assert np.isnan(nn.evaluate(network, x, np.ones((5, 4)), nn.MSELoss())[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 3}, "train = 3"),
        ({"train": (np.zeros((2, 4), int), [0, 1])}, "floating-point"),
        ({"train": (np.zeros((2, 4)), [0])}, "one target per picture"),
        ({"epochs": -1}, "epochs = -1"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"seed": None}, "seed = None"),
        ({"resume": True}, "resume = True"),
        ({"schedule": nn.StepLR(nn.SGD([]), 1)}, "schedule"),
    ],
)
def test_wrong_calls_name_the_argument(options, message):
    arguments = {"train": (np.zeros((2, 4)), [0, 1])} | options
    with pytest.raises(sc.StarconvError, match=message):
        nn.fit(nn.Linear(4, 2, seed=0), **arguments)


def test_digits_are_learned():
    train, test = digits()
    rng = np.random.default_rng(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, seed=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10, seed=rng)
    )
    history = nn.fit(network, train, test, epochs=3)
    assert history[-1].validation_accuracy > 0.93
