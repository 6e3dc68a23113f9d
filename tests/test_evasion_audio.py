"""Attacks on waves: budgets in dB and in amplitude, bands of frequencies, and results that survive a sound file."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attacks.engine import run
from attacks.engine.testing import check_perturbation
from attacks.engine.waveforms import (
    PCM16_BOUNDS,
    PCM16_LEVELS,
    Waveform,
    in_band,
    noise_ratio,
    signal_to_noise,
)
from attacks.errors import InputError
from attacks.evasion import auto_pgd, mi_fgsm, pgd
from attacks.evasion.waveform import waveform_auto_pgd, waveform_pgd
from attacks.models.audio import AudioModel, load_audio_model, read_wav, write_wav

RATE, SAMPLES = 8_000, 400


class Tones(nn.Module):
    """Tells tones apart by how much of each is in the wave: linear in the wave up to here, so optima are known."""

    def __init__(self, frequencies=(500, 1000, 3000)):
        super().__init__()
        time = torch.arange(SAMPLES) / RATE
        self.tones = nn.Parameter(torch.stack([(2 * torch.pi * f * time).sin() for f in frequencies]))

    def forward(self, waves):
        return waves @ self.tones.T


def mixed(amounts, scale=0.25):
    """Waves on the 16-bit grid that hold these amounts of the three tones."""
    waves = scale * torch.tensor(amounts) @ Tones().tones.detach()
    return (waves * 32768).round() / 32768


def tones(amounts=((1.0, 0.9, 0.2), (0.8, 1.0, 0.1), (0.1, 0.9, 1.0)), scale=0.25):
    waves = mixed(amounts, scale)
    model = Tones()
    return model, waves, model(waves).argmax(1)


def needed(model, waves, labels):
    """The least relative l2 change that makes two classes tie: margin over the length of the weights' difference."""
    logits, weight = model(waves).detach(), model.tones.detach()
    gap = logits.gather(1, labels[:, None]) - logits
    length = (weight[labels][:, None] - weight).norm(dim=2)
    ratio = (gap / length.clamp_min(1e-9)).scatter(1, labels[:, None], torch.inf).amin(1)
    return ratio / waves.norm(dim=1)


@pytest.mark.parametrize("attack", [waveform_pgd, waveform_auto_pgd])
def test_the_budget_in_db_is_kept_and_used(attack):
    model, waves, labels = tones()
    least = needed(model, waves, labels)
    for row in range(len(waves)):
        one, label, snr = waves[row : row + 1], labels[row : row + 1], -20 * least[row].log10().item()
        assert not attack(model, one, label, snr=snr + 0.3).success.any()
        result = attack(model, one, label, snr=snr - 0.3)
        assert result.success.all()
        assert signal_to_noise(one, result.adversarial).item() >= snr - 0.3 - 1e-3
        assert result.distance.item() == pytest.approx(
            ((result.adversarial - one).norm() / one.norm()).item(), rel=1e-5
        )


def test_each_wave_has_a_budget_of_its_own():
    model, waves, labels = tones()
    quiet = (waves * torch.tensor([[1.0], [0.25], [0.1]]) * 32768).round() / 32768
    result = waveform_pgd(model, quiet, labels, snr=10, stop=False)
    ratios = (result.adversarial - quiet).norm(dim=1) / quiet.norm(dim=1)
    assert result.success.all()
    assert ratios.max() <= noise_ratio(10) * (1 + 1e-4) and ratios.min() > 0.5 * noise_ratio(10)


def test_several_budgets_in_one_run():
    model, waves, labels = tones()
    levels = [40, 20, 5]
    result = waveform_pgd(model, waves, labels, snr=levels)
    rates = [result.at(noise_ratio(snr)).success_rate.value for snr in levels]
    assert result.radii == tuple(noise_ratio(snr) for snr in levels)
    assert rates == sorted(rates) and rates[0] < rates[-1] == 1.0
    assert result.norm == "relative l2"


def test_the_result_is_16_bit_sound_and_a_file_keeps_it(tmp_path):
    model, waves, labels = tones()
    result = waveform_pgd(model, waves, labels, epsilon=0.02)
    assert result.success.any() and (result.adversarial * 32768).frac().abs().max() == 0
    for row, wave in enumerate(result.adversarial):
        write_wav(tmp_path / f"{row}.wav", wave, sampling_rate=RATE)
        again, rate = read_wav(tmp_path / f"{row}.wav")
        assert rate == RATE and torch.equal(again[0], wave)
        assert (model(again).argmax(1) != labels[row]).item() == result.success[row].item()


@given(sample=st.integers(-(2**15), 2**15 - 1), change=st.floats(-0.125, 0.125, width=32))
def test_these_bounds_and_levels_are_exactly_16_bit_sound(sample, change):
    clean = torch.tensor([[sample / 32768, 0.5]])
    wanted = (clean + torch.tensor([[change, 0.0]])).clamp(*PCM16_BOUNDS)

    def one_point(x, perturbation, *, generator):
        from attacks.engine import Ask

        yield Ask(wanted - x)

    model = nn.Linear(2, 2)
    result = run(
        one_point, model, clean, torch.tensor([0]), norm="linf", bounds=PCM16_BOUNDS, levels=PCM16_LEVELS, restarts=1
    )
    steps = result.adversarial.double() * 32768
    assert torch.equal(steps, steps.round()) and steps.min() >= -(2**15) and steps.max() <= 2**15 - 1
    assert (result.adversarial - clean).abs().max() <= (wanted - clean).abs().max() + 1e-7
    assert (result.adversarial - wanted).abs().max() <= 2**-15


def test_without_levels_the_result_is_not_rounded():
    model, waves, labels = tones()
    result = waveform_pgd(model, waves, labels, epsilon=0.02, levels=None)
    assert (result.adversarial * 32768).frac().abs().max() > 0


@pytest.mark.parametrize("budget", [{"snr": 3}, {"epsilon": 0.12}])
def test_only_the_band_changes(budget):
    model, waves, labels = tones()
    result = waveform_pgd(
        model, waves, labels, **budget, band=(300, 1500), sampling_rate=RATE, levels=None, stop=False, steps=50
    )
    change = result.adversarial - waves
    outside = change - in_band(change, 300, 1500, sampling_rate=RATE)
    assert outside.norm() < 1e-4 * change.norm() and result.success[:2].all()
    assert (change.abs().max() if "epsilon" in budget else result.distance.max()) <= max(result.radii) * (1 + 1e-4)


def test_a_tone_outside_the_band_is_out_of_reach():
    """Class 2 leads by its tone at 3 kHz alone: below 200 Hz there is nothing that any class listens to."""
    model, waves, labels = tones()
    result = waveform_pgd(model, waves, labels, snr=0, band=(20, 200), sampling_rate=RATE, levels=None)
    assert not result.success.any()


def test_rounding_to_16_bits_brings_little_of_other_frequencies_back():
    model, waves, labels = tones()
    result = waveform_pgd(model, waves, labels, snr=10, band=(300, 1500), sampling_rate=RATE, stop=False)
    change = result.adversarial - waves
    outside = change - in_band(change, 300, 1500, sampling_rate=RATE)
    assert 0 < outside.norm() < 1e-3 * change.norm()


@pytest.mark.parametrize("attack", [pgd, auto_pgd, mi_fgsm])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_the_other_attacks_run_on_waves(attack, shape):
    model, waves, labels = tones()
    heard = nn.Sequential(nn.Flatten(), model)
    waves = waves.unflatten(1, (*shape, SAMPLES))
    result = attack(heard, waves, labels, epsilon=0.1, bounds=(-1, 1))
    assert result.success.all() and result.adversarial.shape == waves.shape


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("band", [None, (300.0, 1500.0)])
def test_the_perturbation_keeps_the_rules_of_the_engine(relative, band):
    waves = 0.5 * torch.rand(3, 64, generator=torch.Generator().manual_seed(0))
    check_perturbation(Waveform((-1, 1), relative, band, RATE), waves)


@given(
    samples=st.integers(2, 65),
    edges=st.lists(st.integers(0, 400), min_size=2, max_size=2, unique=True).map(sorted),
    seed=st.integers(0, 99),
)
def test_the_band_is_a_projection(samples, edges, seed):
    waves = torch.randn(2, samples, generator=torch.Generator().manual_seed(seed))
    low, high = (edge / 400 * RATE / 2 for edge in edges)
    if not any(low <= k * RATE / samples <= high for k in range(samples // 2 + 1)):
        with pytest.raises(InputError, match="no frequency"):
            in_band(waves, low, high, sampling_rate=RATE)
        return
    kept = in_band(waves, low, high, sampling_rate=RATE)
    assert torch.allclose(in_band(kept, low, high, sampling_rate=RATE), kept, atol=1e-5)
    assert ((waves - kept) * kept).sum(1).abs().max() < 1e-3  # what is taken away is orthogonal to what stays
    assert (kept.norm(dim=1) <= waves.norm(dim=1) * (1 + 1e-5)).all()


def test_same_seed_same_wave():
    model, waves, labels = tones()
    first, again, other = (waveform_pgd(model, waves, labels, epsilon=0.02, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.adversarial, again.adversarial) and not torch.equal(first.adversarial, other.adversarial)


def test_a_target_is_reached():
    model, waves, labels = tones()
    targets = (labels + 1) % 3
    result = waveform_pgd(model, waves, labels, snr=-3, targets=targets)
    assert result.success.all() and torch.equal(model(result.adversarial).argmax(1), targets)


def test_the_budget_of_queries_is_kept():
    model, waves, labels = tones()
    result = waveform_pgd(model, waves, labels, snr=60, budget=7)
    assert result.forward_passes.max() <= 7


SENTENCES = {
    "Give one budget": {"snr": 20, "epsilon": 0.1},
    "Give one budget: ": {},
    "snr='loud'": {"snr": "loud"},
    "band=": {"snr": 20, "band": (300, 5000), "sampling_rate": RATE},
    "no frequency": {"snr": 20, "band": (1.0, 2.0), "sampling_rate": RATE},
    "steps=0": {"snr": 20, "steps": 0},
    "epsilon=-1": {"epsilon": -1},
    "sampling_rate=0": {"snr": 20, "band": (300, 500), "sampling_rate": 0},
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_wrong_settings_get_a_sentence(sentence):
    with pytest.raises(InputError, match=sentence):
        waveform_pgd(*tones(), **SENTENCES[sentence])


def test_a_silent_wave_has_no_ratio():
    model, waves, labels = tones()
    with pytest.raises(InputError, match="silent"):
        waveform_pgd(model, waves * 0, labels, snr=20)


def test_samples_beyond_16_bits_are_refused():
    model, waves, labels = tones()
    waves[0, 0] = 1.0
    with pytest.raises(InputError, match="clamp them"):
        waveform_pgd(model, waves, labels, snr=20)


def test_a_file_of_two_channels(tmp_path):
    waves = torch.tensor([[0.0, 0.25, -1.0], [32767 / 32768, -0.5, 0.125]])
    write_wav(tmp_path / "both.wav", waves, sampling_rate=44_100)
    again, rate = read_wav(tmp_path / "both.wav")
    assert torch.equal(again, waves) and rate == 44_100


@pytest.mark.parametrize("wave", [torch.tensor([1.0]), torch.tensor([torch.nan]), torch.zeros(1, 1, 1)])
def test_what_a_file_cannot_hold_is_refused(tmp_path, wave):
    with pytest.raises(InputError, match="clamp it"):
        write_wav(tmp_path / "no.wav", wave, sampling_rate=RATE)
    assert not (tmp_path / "no.wav").exists()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_wav(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(InputError, match="no WAV file"):
        read_wav(tmp_path / "text.wav")


def speech(folder, **settings):
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 4),
        conv_stride=(5, 4),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        id2label={0: "yes", 1: "no"},
    )
    torch.manual_seed(0)
    network = Wav2Vec2ForSequenceClassification(config).eval()
    network.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, **settings)
    extractor.save_pretrained(folder)
    return network, extractor


@pytest.mark.parametrize("normalize", [False, True])
def test_a_hugging_face_model_hears_what_its_own_extractor_gives_it(tmp_path, normalize):
    network, extractor = speech(tmp_path, do_normalize=normalize)
    model, (_, waves, _) = load_audio_model(tmp_path), tones()
    heard = extractor([wave.numpy() for wave in waves], sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(model(waves), network(**heard).logits, atol=1e-4)
    assert (model.sampling_rate, model.class_names, model.name) == (RATE, ["yes", "no"], tmp_path.name)
    assert isinstance(model, AudioModel) and not model.training


def test_a_hugging_face_model_is_attacked(tmp_path):
    speech(tmp_path, do_normalize=True)
    model, (_, waves, _) = load_audio_model(tmp_path), tones()
    with torch.no_grad():
        labels = model(waves).argmax(1)
    result = waveform_pgd(model, waves, labels, snr=-10, steps=10)
    with torch.no_grad():
        assert torch.equal(result.success, model(result.adversarial).argmax(1) != labels)
    assert result.backward_passes.min() > 0


def test_a_model_of_spectrograms_is_refused(tmp_path):
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ASTForAudioClassification(ASTConfig(**sizes, max_length=64, num_mel_bins=16)).save_pretrained(tmp_path)
    ASTFeatureExtractor(num_mel_bins=16, max_length=64).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="spectrograms"):
        load_audio_model(tmp_path)


def test_waves_of_another_shape_are_refused():
    model = AudioModel(nn.Linear(4, 2), sampling_rate=RATE, normalize=False, name="tiny", source="tiny")
    with pytest.raises(InputError, match="must be floating-point"):
        model(torch.zeros(1, 1, 4))


class AttentionNetwork(nn.Module):
    """The attention network of de Andrade et al. 2018 for speech commands: 16 kHz waves in, 36 logits out."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mel", mel_filters())
        self.register_buffer("win", torch.hann_window(1024))
        self.c1, self.b1 = nn.Conv2d(1, 10, (5, 1), padding=(2, 0)), nn.BatchNorm2d(10, eps=1e-3)
        self.c2, self.b2 = nn.Conv2d(10, 1, (5, 1), padding=(2, 0)), nn.BatchNorm2d(1, eps=1e-3)
        self.r1 = nn.LSTM(80, 64, bidirectional=True, batch_first=True)
        self.r2 = nn.LSTM(128, 64, bidirectional=True, batch_first=True)
        self.q, self.d1, self.d2, self.out = (nn.Linear(*size) for size in ((128, 128), (128, 64), (64, 32), (32, 36)))

    def forward(self, waves):
        frames = nn.functional.pad(waves, (0, 1024)).unfold(1, 1024, 128)[:, : -(-waves.shape[1] // 128)]
        loudness = (torch.fft.rfft(frames * self.win).abs() @ self.mel + 1e-6).log()
        spread = loudness.std((1, 2), keepdim=True, correction=0)
        pictures = ((loudness - loudness.mean((1, 2), keepdim=True)) / spread)[:, None]
        hidden = self.b2(self.c2(self.b1(self.c1(pictures).relu())).relu())[:, 0]
        hidden = self.r2(self.r1(hidden)[0])[0]
        attention = (hidden @ self.q(hidden[:, -1])[:, :, None]).softmax(1)
        return self.out(self.d2(self.d1((attention * hidden).sum(1)).relu()))


def mel_filters(filters=80, bins=513, low=40.0, high=8000.0):
    """Triangles that are evenly wide on the mel scale, shape [bins, filters]; none reaches the lowest bin."""
    mel = 1127 * torch.log1p(torch.linspace(0, 8000, bins, dtype=torch.float64) / 700)[1:, None]
    ends = 1127 * torch.log1p(torch.tensor([low, high], dtype=torch.float64) / 700)
    edges = torch.linspace(*ends.tolist(), filters + 2, dtype=torch.float64)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((mel - left) / (middle - left), (right - mel) / (right - middle)).clamp_min(0)
    return nn.functional.pad(triangles, (0, 0, 1, 0)).float()


@pytest.fixture(scope="module")
def spoken(assets):
    """The network, words that it recognises, and their labels."""
    from safetensors.torch import load_file

    model = AttentionNetwork()
    model.load_state_dict(load_file(assets / "models" / "attrnn_speech_commands" / "model.safetensors"))
    with np.load(assets / "audio" / "speech_words" / "words_16k.npz") as words:
        waves, labels = torch.from_numpy(words["audio"] / np.float32(32768)), torch.from_numpy(words["label"]).long()
    with torch.no_grad():
        right = model.eval()(waves).argmax(1) == labels
    assert right.float().mean() > 0.85
    return model, waves[right][:24], labels[right][:24]


@pytest.mark.slow
def test_spoken_words_fall_at_40_db_and_their_files_still_fool(spoken, tmp_path):
    model, waves, labels = spoken
    result = waveform_auto_pgd(model, waves, labels, snr=40, steps=20)
    assert result.success_rate.value >= 0.9
    assert signal_to_noise(waves, result.adversarial).min() >= 40 - 1e-3
    for row, wave in enumerate(result.adversarial):
        write_wav(tmp_path / f"{row}.wav", wave, sampling_rate=16_000)
    read = torch.cat([read_wav(tmp_path / f"{row}.wav")[0] for row in range(len(waves))])
    with torch.no_grad():
        assert torch.equal(model(read).argmax(1) != labels, result.success)


@pytest.mark.slow
def test_spoken_words_fall_within_the_telephone_band(spoken):
    model, waves, labels = spoken
    result = waveform_auto_pgd(model, waves, labels, snr=30, steps=20, band=(300, 3400))
    change = result.adversarial - waves
    outside = change - in_band(change, 300, 3400, sampling_rate=16_000)
    assert result.success_rate.value >= 0.85
    assert (outside.norm(dim=1) <= 0.2 * change.norm(dim=1)).all()
